"""A PPO of its own for each provider, all learning at the same time, by this package's VecEnv.

Needs: pip install ttc-env stable-baselines3
"""

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

import ttc_env
from ttc_env.envs.sb3 import independent_vec_envs, learn

market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])
envs = independent_vec_envs(16, market=market, prices="fixed")
models = [
    PPO(
        "MlpPolicy", VecNormalize(env, norm_obs=False, gamma=0.0), n_steps=32, batch_size=128,
        n_epochs=4, gamma=0.0, learning_rate=5e-3, policy_kwargs={"net_arch": [32]}, seed=i,
        device="cpu",
    )
    for i, env in enumerate(envs)
]  # fmt: skip
learn(models, 6_000)

# What was learned, against the exact solution.
env = ttc_env.parallel_env(market=market, prices="fixed")
seen = env.reset(seed=0)[0].values()
levels = np.array(
    [int(m.predict(x, deterministic=True)[0]) for m, x in zip(models, seen, strict=True)]
)
print("learned    ", levels, "NashConv", ttc_env.nash_conv(market, levels))
print("equilibrium", env.solve().worst)
