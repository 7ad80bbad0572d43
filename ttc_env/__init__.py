"""ttc_env: test-time compute games, and the exact equilibria beside every market.

    env = ttc_env.parallel_env(mechanism="auction")    # PettingZoo
    solution = env.unwrapped.solve()                   # what perfect play looks like

Start at `MarketEnv` (the environment), `load_market` (where quality curves come from) and `solve`
(equilibria and optimum).

Names are loaded when they are first used (PEP 562). What is loaded at once is what makes the ids
known: the registries of Gymnasium and PettingZoo, where these can be imported (`registration.py`
says why).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ttc_env.export as export  # noqa: F401
    import ttc_env.testing as testing  # noqa: F401
    from ttc_env.envs.market import MarketAEC, MarketEnv, env, parallel_env
    from ttc_env.envs.provider import ProviderEnv
    from ttc_env.envs.vector import VectorMarketEnv, vector_env
    from ttc_env.envs.world.shocks import AR1, Path, Process, Shocks
    from ttc_env.envs.world.stage_game import StageGame
    from ttc_env.game.audit import Audit, audit
    from ttc_env.game.comparison import Comparison, compare
    from ttc_env.game.curves import load_market
    from ttc_env.game.deterrence import Deterrence, deterrence, who_pays
    from ttc_env.game.fit_beta import fit_beta
    from ttc_env.game.list_prices import prices_from
    from ttc_env.game.market_batch import MarketBatch
    from ttc_env.game.mechanisms import Mechanism, make_mechanism, mechanisms, register_mechanism
    from ttc_env.game.random_markets import random_markets
    from ttc_env.game.regret import nash_conv, regret, relative_regret
    from ttc_env.game.resampling import resample
    from ttc_env.game.rules.base import Rule
    from ttc_env.game.rules.score_auction import AuctionSolution
    from ttc_env.game.rules.user_types import UserType
    from ttc_env.game.solution import Solution
    from ttc_env.game.solve import auction_gain, solve
    from ttc_env.game.sweep import Sweep, sweep
    from ttc_env.game.types import Market, Provider, QualityFunction
    from ttc_env.game.yardstick import first_best

__version__ = "0.1.0"

__all__ = [
    "AR1",
    "AuctionSolution",
    "Audit",
    "Comparison",
    "Deterrence",
    "Market",
    "MarketAEC",
    "MarketBatch",
    "MarketEnv",
    "Mechanism",
    "Path",
    "Process",
    "Provider",
    "ProviderEnv",
    "QualityFunction",
    "Rule",
    "Shocks",
    "Solution",
    "StageGame",
    "Sweep",
    "UserType",
    "VectorMarketEnv",
    "auction_gain",
    "audit",
    "compare",
    "deterrence",
    "env",
    "first_best",
    "fit_beta",
    "load_market",
    "make_mechanism",
    "mechanisms",
    "nash_conv",
    "parallel_env",
    "prices_from",
    "random_markets",
    "register_mechanism",
    "regret",
    "relative_regret",
    "resample",
    "solve",
    "sweep",
    "vector_env",
    "who_pays",
]

_NAMES = {
    "ttc_env.envs.market": ("MarketAEC", "MarketEnv", "env", "parallel_env"),
    "ttc_env.envs.provider": ("ProviderEnv",),
    "ttc_env.envs.world.shocks": ("AR1", "Path", "Process", "Shocks"),
    "ttc_env.envs.world.stage_game": ("StageGame",),
    "ttc_env.envs.vector": ("VectorMarketEnv", "vector_env"),
    "ttc_env.game.audit": ("Audit", "audit"),
    "ttc_env.game.comparison": ("Comparison", "compare"),
    "ttc_env.game.curves": ("load_market",),
    "ttc_env.game.fit_beta": ("fit_beta",),
    "ttc_env.game.deterrence": ("Deterrence", "deterrence", "who_pays"),
    "ttc_env.game.list_prices": ("prices_from",),
    "ttc_env.game.market_batch": ("MarketBatch",),
    "ttc_env.game.resampling": ("resample",),
    "ttc_env.game.mechanisms": (
        "Mechanism",
        "make_mechanism",
        "mechanisms",
        "register_mechanism",
    ),
    "ttc_env.game.random_markets": ("random_markets",),
    "ttc_env.game.regret": ("nash_conv", "regret", "relative_regret"),
    "ttc_env.game.rules.base": ("Rule",),
    "ttc_env.game.rules.score_auction": ("AuctionSolution",),
    "ttc_env.game.rules.user_types": ("UserType",),
    "ttc_env.game.solution": ("Solution",),
    "ttc_env.game.solve": ("auction_gain", "solve"),
    "ttc_env.game.sweep": ("Sweep", "sweep"),
    "ttc_env.game.types": ("Market", "Provider", "QualityFunction"),
    "ttc_env.game.yardstick": ("first_best",),
}
_MODULES = ("export", "testing")  # read as ttc_env.export.payoffs
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value  # found without this function from now on
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


try:
    from ttc_env.registration import register as _register

    _register()
except ImportError:
    # Without Gymnasium and PettingZoo there are no registries to enter, and `ttc_env.game` still
    # solves: it needs NumPy alone.
    pass
