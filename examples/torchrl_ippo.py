"""TorchRL's IPPO: a network of its own for each provider.

Needs: pip install ttc-env torchrl
"""

import torch
from tensordict.nn import TensorDictModule
from torch.distributions import Categorical
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.modules import MultiAgentMLP, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss

import ttc_env

torch.manual_seed(0)
market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])
game = ttc_env.parallel_env(market=market, prices="fixed", max_cycles=400, infos="basic")
env = PettingZooWrapper(game, categorical_actions=True)
n, size, levels = market.num_providers, game.layout.size, market.num_levels


def networks(outputs):
    return MultiAgentMLP(
        size, outputs, n, centralized=False, share_params=False, depth=1, num_cells=32
    )


seen, logits, value = ("provider", "observation"), ("provider", "logits"), ("provider", "value")
scores = TensorDictModule(networks(levels), in_keys=[seen], out_keys=[logits])
actor = ProbabilisticActor(
    scores, spec=env.full_action_spec_unbatched["provider", "action"], in_keys=[logits],
    out_keys=[env.action_key], distribution_class=Categorical, return_log_prob=True,
    log_prob_key=("provider", "log_prob"),
)  # fmt: skip
critic = TensorDictModule(networks(1), in_keys=[seen], out_keys=[value])
loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=False)
loss.set_keys(
    action=env.action_key, value=value, advantage=("provider", "advantage"),
    value_target=("provider", "target"), sample_log_prob=("provider", "log_prob"),
)  # fmt: skip
optimizer = torch.optim.Adam(loss.parameters(), lr=0.004)
for _ in range(30):
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        played = env.rollout(400, actor)
        earned = played["next", "provider", "reward"]
        # a round's profit depends on that round alone: no discounting, no bootstrapping
        played["provider", "target"] = earned / earned.std(0)
        played["provider", "advantage"] = (earned - earned.mean(0)) / (earned.std(0) + 1e-8)
    for _ in range(4):
        losses = loss(played)
        optimizer.zero_grad()
        sum(x for name, x in losses.items() if name.startswith("loss")).backward()
        optimizer.step()

# What was learned, against the exact solution: in the last round, which is like most that it saw.
learned = scores(played[-1])[logits].argmax(-1).numpy()
print("learned    ", learned, "NashConv", ttc_env.nash_conv(market, learned))
print("equilibrium", game.solve().worst)
