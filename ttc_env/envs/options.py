"""The options that games are made with, as types: editors complete them, type checkers refuse
misspelt ones.

What each means is in the docstring of `ttc_env.MarketEnv`; `config.make_config` validates them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from ttc_env.envs.world.shocks import Shocks
from ttc_env.game.misreports import Misreport
from ttc_env.game.rules.user_types import Types
from ttc_env.game.types import QualityFunction

if TYPE_CHECKING:
    import pandas as pd

    Benchmark: TypeAlias = str | os.PathLike[str] | pd.DataFrame
else:
    Benchmark = object

Infos: TypeAlias = Literal["full", "basic"]
RenderMode: TypeAlias = Literal["ansi", "human", "rgb_array"]


class MarketOptions(TypedDict, total=False):
    """Options of `ttc_env.load_market`."""

    as_of: str | datetime.date | None
    providers: Sequence[str] | None
    beta: float | None
    alpha: float | None
    baseline: float
    quality_function: str | QualityFunction
    outside_value: float
    margin: float | None
    prices_per_token: Mapping[str, float] | None


class MechanismOptions(TypedDict, total=False):
    """Options of mechanisms; each mechanism takes some of them, and refuses the others."""

    prices: Literal["grid", "fixed"] | Sequence[float]
    misreport: Misreport
    audit_rate: float
    fine: float
    noticed: bool
    settlement: Literal["delivered", "claimed"]
    reserve: float
    base: Literal["list", "value"]
    cap: float | None
    types: Types | None


class GameOptions(MarketOptions, MechanismOptions, total=False):
    """What one environment and many share."""

    actions: Literal["discrete", "flat", "continuous"]
    users: int
    demand: Literal["expected", "sampled"]
    information: Literal["full", "prices", "own"]
    max_cycles: int
    shocks: Shocks | None
    price_period: int
    agent_names: Sequence[str] | None
