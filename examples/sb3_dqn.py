"""DQN for one provider who chooses level and price, against rivals in equilibrium.

Needs: pip install ttc-env stable-baselines3
"""

import gymnasium
import numpy as np
from stable_baselines3 import DQN

import ttc_env

env = gymnasium.make(
    "ttc_env/Provider-v0", opponent="equilibrium", provider=1, actions="flat",
    prices=[0.8, 1.0, 1.25, 2.0, 4.0], providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"],
    infos="basic",
)  # fmt: skip
model = DQN(
    "MlpPolicy", env, gamma=0.0, learning_rate=2e-3, learning_starts=500, train_freq=8,
    batch_size=64, exploration_fraction=0.5, policy_kwargs={"net_arch": [64]}, seed=0, device="cpu",
)  # fmt: skip
model.learn(6_000)

# What was learned, against the exact solution.
game = env.unwrapped
actions = game.solve().worst.copy()  # flat actions: level and price
print("equilibrium", actions)
actions[game.provider] = int(model.predict(env.reset(seed=0)[0], deterministic=True)[0])
nash_conv = ttc_env.nash_conv(game.market, actions, game.config.mechanism)
print("learned    ", np.array(actions), "NashConv", nash_conv)
