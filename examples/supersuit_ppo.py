"""One PPO for all providers, by SuperSuit and Stable-Baselines3.

Needs: pip install ttc-env supersuit stable-baselines3
"""

import numpy as np
import supersuit as ss
import torch
from stable_baselines3 import PPO

import ttc_env

np.random.seed(0)  # noqa: NPY002 (what Stable-Baselines3 draws from)
torch.manual_seed(0)
env = ttc_env.parallel_env(
    prices="fixed", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"], infos="basic"
)
copies = ss.concat_vec_envs_v1(
    ss.pettingzoo_env_to_vec_env_v1(env), 8, base_class="stable_baselines3"
)
model = PPO(
    "MlpPolicy", copies, n_steps=64, batch_size=384, n_epochs=4, gamma=0.0, learning_rate=5e-3,
    policy_kwargs={"net_arch": [32]}, device="cpu",
)  # fmt: skip
model.learn(30_000)

# What was learned, against the exact solution.
seen, _ = env.reset(seed=0)
levels = np.array([int(model.predict(seen[a], deterministic=True)[0]) for a in env.agents])
print("learned    ", levels, "NashConv", ttc_env.nash_conv(env.market, levels))
print("equilibrium", env.solve().worst)
