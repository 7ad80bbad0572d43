"""MaskablePPO on providers with different numbers of levels, by the VecEnv of this package.

Needs: pip install ttc-env sb3-contrib
"""

import numpy as np
from sb3_contrib import MaskablePPO

import ttc_env
from ttc_env.envs.sb3 import shared_vec_env

# Models sold today, some with one level, some with up to five.
market = ttc_env.load_market(
    "arc_agi_2", providers=["Claude Haiku 4.5", "GPT-5.4 mini", "DeepSeek-V3.2", "GPT-5.4 nano"]
)
env = shared_vec_env(16, market=market, prices="fixed")
print("levels that exist", [int(mask.sum()) for mask in env.action_masks()[: market.num_providers]])
model = MaskablePPO(
    "MlpPolicy", env, n_steps=32, batch_size=512, n_epochs=4, gamma=0.0, learning_rate=5e-3,
    policy_kwargs={"net_arch": [32]}, seed=0, device="cpu",
)  # fmt: skip
model.learn(30_000)

# What was learned, against the exact solution.
n = market.num_providers
levels = model.predict(env.reset()[:n], action_masks=env.action_masks()[:n], deterministic=True)[0]
print("learned    ", np.array(levels), "NashConv", ttc_env.nash_conv(market, levels))
print("equilibrium", ttc_env.solve(market).worst)
