"""Independent policy gradients in one file, on 256 games at once: no framework but torch.

Needs: pip install ttc-env torch
"""

import time

import torch

import ttc_env

torch.manual_seed(0)
market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])
games, providers = 256, market.num_providers
env = ttc_env.vector_env(games, market=market, prices="fixed", observations="full")
size, levels = env.layout.size, market.num_levels
# One linear policy a provider: it sees what it sees, and gives a score to every level.
weights = torch.zeros(providers, size, levels, requires_grad=True)
optimizer = torch.optim.Adam([weights], lr=0.02)

seen, _ = env.reset(seed=0)
started = time.perf_counter()
for _ in range(300):
    scores = torch.einsum("bnd,ndl->bnl", torch.from_numpy(seen), weights)
    policy = torch.distributions.Categorical(logits=scores)
    actions = policy.sample()
    seen, rewards, *_ = env.step(actions.numpy())
    earned = torch.from_numpy(rewards).float()
    advantage = (earned - earned.mean(0)) / (earned.std(0) + 1e-8)
    loss = -(policy.log_prob(actions) * advantage).mean() - 0.003 * policy.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
speed = 300 * games * providers / (time.perf_counter() - started)

# What was learned, against the exact solution.
levels = scores.detach().mean(0).argmax(-1).numpy()
print("learned    ", levels, "NashConv", ttc_env.nash_conv(market, levels))
print("equilibrium", env.solve()[0].worst, f"({speed:,.0f} agent-steps/s)")
