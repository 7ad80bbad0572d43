"""AgileRL's IPPO with a policy of its own for each provider.

Needs: pip install ttc-env agilerl peft
"""

import numpy as np
import torch
from agilerl.algorithms import IPPO
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy
from pettingzoo.utils import BaseParallelWrapper

import ttc_env


class WithoutMasks(BaseParallelWrapper):
    """AgileRL 2.58.0 cannot read a mask that is an array. All levels exist in this market."""

    def reset(self, seed=None, options=None):
        return super().reset(seed, options)[0], {agent: {} for agent in self.possible_agents}

    def step(self, actions):
        return *super().step(actions)[:4], {agent: {} for agent in self.possible_agents}


torch.manual_seed(0)
market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])
# AgileRL gives agents one policy whose names differ in a number alone, as provider_0, provider_1.
names = ("llama", "qwen", "newer-qwen")
env = WithoutMasks(
    ttc_env.parallel_env(market=market, prices="fixed", infos="basic", agent_names=names)
)
agent = IPPO(
    [env.observation_space(name) for name in env.possible_agents],
    [env.action_space(name) for name in env.possible_agents],
    agent_ids=env.possible_agents, learn_step=400, batch_size=200, lr=3e-3, gamma=0.0,
    net_config={"encoder_config": {"hidden_size": [32]}, "head_config": {"hidden_size": [32]}},
)  # fmt: skip
train_multi_agent_on_policy(
    env, "ttc_env", "IPPO", [agent], sum_scores=False, max_steps=12_000, evo_steps=4_000,
    eval_steps=10, verbose=False,
)  # fmt: skip

# What was learned, against the exact solution: the choice that each makes most often.
seen, infos = env.reset(seed=0)
agent.set_training_mode(False)
seen = {name: np.repeat(x[None], 500, axis=0) for name, x in seen.items()}
chosen = agent.get_action(seen)[0]
levels = np.array([np.bincount(chosen[name].reshape(-1)).argmax() for name in env.possible_agents])
print("learned    ", levels, "NashConv", ttc_env.nash_conv(market, levels))
print("equilibrium", ttc_env.solve(market).worst)
