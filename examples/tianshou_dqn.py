"""Tianshou's DQN for one provider, on 8 copies of the game, against rivals in equilibrium.

Needs: pip install ttc-env tianshou
"""

import gymnasium
import numpy as np
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

import ttc_env

torch.manual_seed(0)
np.random.seed(0)  # noqa: NPY002 (what Tianshou draws from)


def make():
    return gymnasium.make(
        "ttc_env/Provider-v0", opponent="equilibrium", provider=1, prices="fixed", infos="basic",
        providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"],
    )  # fmt: skip


env, copies = make(), DummyVectorEnv([make] * 8)
net = Net(
    state_shape=env.observation_space.shape, action_shape=env.action_space.n, hidden_sizes=[32]
)
policy = DiscreteQLearningPolicy(
    model=net, action_space=env.action_space, observation_space=env.observation_space,
    eps_training=0.3, eps_inference=0.0,
)  # fmt: skip
algorithm = DQN(
    policy=policy, optim=AdamOptimizerFactory(lr=3e-3), gamma=0.0, n_step_return_horizon=1,
    target_update_freq=0,
)  # fmt: skip
collector = Collector(algorithm, copies, VectorReplayBuffer(10_000, 8), exploration_noise=True)
collector.reset()
collector.collect(n_step=800, random=True)
algorithm.run_training(
    OffPolicyTrainerParams(
        training_collector=collector, test_collector=None, max_epochs=2, epoch_num_steps=2_000,
        collection_step_num_env_steps=80, update_step_num_gradient_steps_per_sample=0.2,
        batch_size=128, test_in_training=False, show_progress=False, verbose=False,
    )
)  # fmt: skip

# What was learned, against the exact solution.
game = env.unwrapped
levels = game.solve().worst.copy()
print("equilibrium", levels)
seen, _ = env.reset(seed=0)
levels[game.provider] = int(net(torch.from_numpy(seen[None]))[0].argmax())
print("learned    ", levels, "NashConv", ttc_env.nash_conv(game.market, levels))
