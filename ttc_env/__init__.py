"""ttc_env: test-time compute games, and the exact equilibria beside every market.

    env = ttc_env.parallel_env(mechanism="auction")    # PettingZoo
    solution = env.unwrapped.solve()                   # what perfect play looks like

Start at `MarketEnv` (the environment), `load_market` (where quality curves come from) and `solve`
(equilibria and optimum).
"""

from ttc_env.envs.market import MarketEnv, env, parallel_env
from ttc_env.envs.vector import VectorMarketEnv, vector_env
from ttc_env.game.curves import load_market
from ttc_env.game.list_prices import prices_from
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.random_markets import random_markets
from ttc_env.game.regret import nash_conv, regret, relative_regret
from ttc_env.game.resampling import resample
from ttc_env.game.solve import AuctionSolution, Solution, auction_gain, solve
from ttc_env.game.sweep import Sweep, sweep
from ttc_env.game.types import Market, Provider, QualityFunction
from ttc_env.registration import register as _register

__version__ = "0.1.0"

__all__ = [
    "AuctionSolution",
    "Market",
    "MarketBatch",
    "MarketEnv",
    "Provider",
    "QualityFunction",
    "Solution",
    "Sweep",
    "VectorMarketEnv",
    "auction_gain",
    "env",
    "load_market",
    "nash_conv",
    "parallel_env",
    "prices_from",
    "random_markets",
    "regret",
    "relative_regret",
    "resample",
    "solve",
    "sweep",
    "vector_env",
]

_register()
