"""RLlib's PPO with a policy of its own for each provider.

Needs: pip install ttc-env "ray[rllib]" torch
"""

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env

import ttc_env

market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])


def make(config=None):
    return ttc_env.parallel_env(market=market, prices="fixed", infos="basic")


register_env("market", lambda config: ParallelPettingZooEnv(make()))
agents = make().possible_agents
algorithm = (
    PPOConfig()
    .environment("market")
    .env_runners(num_env_runners=0)
    .multi_agent(policies=set(agents), policy_mapping_fn=lambda agent, *args, **kwargs: agent)
    .training(
        gamma=0.0, lr=0.005, train_batch_size_per_learner=400, minibatch_size=200, num_epochs=6,
        entropy_coeff=0.0,
    )
    .rl_module(model_config={"fcnet_hiddens": [32], "vf_share_layers": False})
    .debugging(seed=0)
    .build_algo()
)  # fmt: skip
for _ in range(25):
    algorithm.train()

# What was learned, against the exact solution.
env = make()
levels = []
for agent, seen in env.reset(seed=0)[0].items():
    scores = algorithm.get_module(agent).forward_inference({"obs": torch.from_numpy(seen[None])})
    levels.append(int(scores["action_dist_inputs"].argmax()))
print("equilibrium", env.solve().worst)
print("learned    ", np.array(levels), "NashConv", ttc_env.nash_conv(market, np.array(levels)))
