"""Versioned ids, in PettingZoo's registry (parallel and AEC) and in Gymnasium's.

    pettingzoo.make("parallel", "ttc_env/Auction-v0", benchmark="gpqa")
    gymnasium.make("ttc_env/Provider-v0", opponent="best_response")

Every id takes all options of the environment; an id only sets some of them.

`import ttc_env` registers at once, so that ids work whichever of the libraries is imported first.
Neither has a way to register without being imported: Gymnasium 1.0 dropped its plugins (its
`"ttc_env:ttc_env/Provider-v0"` imports this module by name, which works, too), and PettingZoo has
none. Importing both registries takes about as long as importing NumPy; the environments themselves,
and pandas, are imported when one is made.
"""

from __future__ import annotations

from typing import Any

PETTINGZOO_IDS: dict[str, dict[str, Any]] = {
    "ttc_env/Market-v0": {"mechanism": "market"},
    "ttc_env/MarketFlat-v0": {"mechanism": "market", "actions": "flat"},
    "ttc_env/MarketFixedPrice-v0": {"mechanism": "market", "prices": "fixed"},
    "ttc_env/MarketContinuous-v0": {"mechanism": "market", "actions": "continuous"},
    "ttc_env/MarketSampled-v0": {"mechanism": "market", "demand": "sampled"},
    "ttc_env/Auction-v0": {"mechanism": "auction"},
    "ttc_env/AuctionFlat-v0": {"mechanism": "auction", "actions": "flat"},
    "ttc_env/AuctionTruthful-v0": {"mechanism": "auction", "prices": "fixed"},
    "ttc_env/AuctionContinuous-v0": {"mechanism": "auction", "actions": "continuous"},
    "ttc_env/AuctionMisreport-v0": {
        "mechanism": "auction",
        "misreport": {"over_claim": (0.8, 1.25)},
        "settlement": "claimed",
    },
    "ttc_env/FlatFee-v0": {"mechanism": "flat_fee"},
    "ttc_env/PayPerCorrect-v0": {"mechanism": "pay_per_correct"},
    "ttc_env/TwoPart-v0": {"mechanism": "two_part"},
    "ttc_env/PriceCap-v0": {"mechanism": "price_cap"},
    "ttc_env/FirstScore-v0": {"mechanism": "first_score"},
    "ttc_env/TasteAuction-v0": {"mechanism": "taste_auction"},
}
"""Multi-agent ids and the options that each sets."""

GYMNASIUM_IDS: dict[str, tuple[str, str]] = {
    "ttc_env/Provider-v0": (
        "ttc_env.envs.provider:ProviderEnv",
        "ttc_env.envs.provider_vector:ProviderVectorEnv",
    )
}
"""Single-agent ids, the market as one provider sees it: one environment, and a batch."""


def register() -> None:
    """Enter all ids into the registries; safe to call again."""
    import gymnasium

    for name, (one, many) in GYMNASIUM_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=one, vector_entry_point=many)
    try:
        from pettingzoo.env_registry import registration
    except ImportError:
        return  # PettingZoo before 1.27 has no registry: `ttc_env.parallel_env` makes environments
    for name, options in PETTINGZOO_IDS.items():
        if name not in registration.parallel_registry:
            registration.register(
                "parallel", name, "ttc_env.envs.market:parallel_env", kwargs=options
            )
        if name not in registration.aec_registry:
            registration.register("aec", name, "ttc_env.envs.market:env", kwargs=options)
