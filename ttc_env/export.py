"""A market as a game in normal form, for the libraries of game theory.

    game = ttc_env.export.payoffs(market, providers=["Qwen2-7B", "Qwen2.5-7B"])
    game.utility                       # [n, a_0, a_1, ...] USD per arriving user
    game.to_nfg("market.nfg")          # Gambit's file format
    game.to_pygambit(), game.to_openspiel(), game.to_quantecon()

What these libraries find is read back as the mixed profile that this package measures:

    found = pygambit.nash.lcp_solve(game.to_pygambit()).equilibria[0]
    ttc_env.nash_conv(game.market, game.mixture(found), game.mechanism)

Nothing here needs a library before it is asked for its objects.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.atomic import write_text
from ttc_env.game.enumeration import MOST_PROFILES
from ttc_env.game.mechanisms import Mechanism, make_mechanism
from ttc_env.game.types import Array, Market
from ttc_env.game.validation import index


@dataclass(frozen=True, eq=False)
class Payoffs:
    """A game in normal form. Made by `payoffs`.

    Player j is provider `players[j]` of `market`; its k-th strategy is the flat action
    `actions[j][k]`. Providers who are no players play their part of `held`.
    """

    market: Market
    mechanism: Mechanism
    utility: Array  # [p, a_0, ..., a_{p-1}] USD per arriving user: U of each player
    players: tuple[int, ...]  # [p] providers
    actions: tuple[NDArray[np.intp], ...]  # for each player [a_j] flat actions
    labels: tuple[tuple[str, ...], ...]  # for each player [a_j]: what a strategy is, in words
    held: NDArray[np.intp]  # [n] flat actions of those who are no players; players' entries are 0

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.utility.shape[1:]))
        return f"Payoffs({shape} profiles of {self.mechanism.name!r}, {self.market!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """`[p]` names of the players."""
        return tuple(self.market.names[i] for i in self.players)

    @property
    def title(self) -> str:
        """The game in one line, for files."""
        where = f"{self.market.benchmark or 'own curves'} {self.market.method or ''}".rstrip()
        return f"{self.mechanism.name}, {where}, beta {self.market.beta:g}, USD per arriving user"

    # --- to other libraries ---

    def to_nfg(self, path: str | Path | None = None) -> str:
        """The game in Gambit's `.nfg` format, with names of players and strategies; also written
        to `path`, if there is one. Numbers are exact: the shortest decimals that are these doubles.
        """

        def listed(words: Sequence[str]) -> str:
            quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
            return "{ " + " ".join(f'"{word}"' for word in quoted) + " }"

        strategies = "\n".join(listed(labels) for labels in self.labels)
        # player 0's strategy changes fastest, players' payoffs of a profile stand together
        numbers = np.moveaxis(self.utility, 0, -1).transpose(
            *reversed(range(len(self.players))), -1
        )
        body = " ".join(np.format_float_positional(x, trim="-") for x in numbers.reshape(-1))
        text = (
            f"NFG 1 R {listed([self.title])[2:-2]} {listed(self.names)}\n\n"
            f'{{ {strategies}\n}}\n""\n\n{body}\n'
        )
        if path is not None:
            write_text(path, text)
        return text

    def to_pygambit(self) -> Any:
        """`pygambit.Game`, with exact rational payoffs.

        Raises:
            ImportError: pygambit is not installed.
        """
        pygambit = _library("pygambit", "pygambit")
        return pygambit.read_nfg(io.BytesIO(self.to_nfg().encode()))

    def to_openspiel(self) -> Any:
        """`pyspiel.TensorGame`; for two players `pyspiel.MatrixGame`.

        Raises:
            ImportError: OpenSpiel is not installed.
        """
        pyspiel = _library("pyspiel", "open_spiel")
        if len(self.players) == 2:
            rows, columns = map(list, self.labels)
            return pyspiel.create_matrix_game(
                "ttc_env", self.title, rows, columns, *self.utility.tolist()
            )
        return pyspiel.create_tensor_game(
            "ttc_env",
            self.title,
            [list(names) for names in self.labels],
            [table.reshape(-1).tolist() for table in self.utility],
        )

    def to_quantecon(self) -> Any:
        """`quantecon.game_theory.NormalFormGame`.

        Raises:
            ImportError: QuantEcon is not installed.
        """
        theory = _library("quantecon.game_theory", "quantecon")
        count = len(self.players)
        # a player's own strategies first, then those of the players after it, round the table
        return theory.NormalFormGame(
            [
                theory.Player(
                    np.ascontiguousarray(table.transpose(*((j + k) % count for k in range(count))))
                )
                for j, table in enumerate(self.utility)
            ]
        )

    # --- and back ---

    def profile(self, strategies: Sequence[int]) -> NDArray[np.intp]:
        """Flat actions `[n]` of a pure profile, one strategy index a player: what
        `ttc_env.nash_conv` and `Solution.at` take.
        """
        chosen = self.held.copy()
        self._check_players(strategies)
        for j, k in enumerate(strategies):
            chosen[self.players[j]] = self.actions[j][self._strategy(j, k)]
        return chosen

    def _check_players(self, rows: Sequence[Any]) -> None:
        if len(rows) != len(self.players):
            raise ValueError(f"{len(rows)} strategies for {len(self.players)} players: {rows!r}")

    def _strategy(self, player: int, k: Any) -> int:
        """The index of a strategy, checked."""
        count = len(self.actions[player])
        whole = isinstance(k, (int, float, np.integer, np.floating)) and not isinstance(k, bool)
        if not (whole and 0 <= k < count and k == int(k)):
            raise ValueError(
                f"{self.names[player]} has no strategy {k!r}; give a whole number from 0 to"
                f" {count - 1}"
            )
        return int(k)

    def mixture(self, found: Any) -> Array:
        """Another library's mixed (or pure) profile as probabilities `[n, a]` over flat actions:
        what `ttc_env.nash_conv`, `regret` and `relative_regret` take.

        Args:
            found: one entry a player, each the probabilities of its strategies or the index of one:
                a mixed or logit profile of pygambit, what QuantEcon's solvers return, or arrays.

        Raises:
            ValueError: another number of players or strategies, or no probabilities.
        """
        found = getattr(found, "profile", found)  # pygambit's logit equilibria carry one
        if hasattr(found, "game"):  # pygambit's, looked up by names of players and strategies
            labelled = zip(self.names, self.labels, strict=True)
            rows = [[float(found[name][label]) for label in labels] for name, labels in labelled]
        else:
            rows = list(found)
        self._check_players(rows)
        mixture = np.zeros((self.market.num_providers, self._width))
        mixture[np.arange(len(mixture)), self.held] = 1.0
        for j, (i, actions, row) in enumerate(zip(self.players, self.actions, rows, strict=True)):
            chances = np.asarray(row, dtype=np.float64)
            if chances.ndim == 0:
                chances = np.eye(len(actions))[self._strategy(j, chances[()])]
            if chances.shape != actions.shape:
                raise ValueError(
                    f"{self.market.names[i]} has {len(actions)} strategies; got {chances.shape}"
                )
            # NaN compares as False
            if not ((chances >= -1e-9).all() and abs(chances.sum() - 1.0) <= 1e-6):
                raise ValueError(
                    f"{self.market.names[i]}: {chances} are no probabilities; give numbers >= 0"
                    " that sum to 1"
                )
            mixture[i] = 0.0
            mixture[i, actions] = chances
        return mixture

    def joint(self, chances: ArrayLike) -> Array:
        """A distribution over all profiles, such as alpha-rank's, as `[a_0, ..., a_{p-1}]`.

        Args:
            chances: `[profiles]`, the last player's strategy changing fastest: the order in which
                OpenSpiel's alpha-rank counts profiles of several populations.

        Raises:
            ValueError: another number of profiles.
        """
        chances = np.asarray(chances, dtype=np.float64)
        shape = self.utility.shape[1:]
        if chances.size != np.prod(shape):
            raise ValueError(f"{chances.size} chances for {np.prod(shape)} profiles")
        return chances.reshape(shape)

    @cached_property
    def _width(self) -> int:
        return int(np.prod(self.mechanism.grid(self.market)))


def payoffs(
    game: Any,
    mechanism: str | Mechanism | None = None,
    *,
    providers: Sequence[str | int] | None = None,
    rest: str | ArrayLike | None = None,
    max_profiles: int = MOST_PROFILES,
) -> Payoffs:
    """What everybody earns in every profile: the game in normal form.

    Args:
        game: a `Market`, or an environment (PettingZoo's, parallel or AEC, or a Provider view),
            whose market and mechanism are taken.
        mechanism: of a market: a registered name, `"market"` by default, or a `Mechanism`.
        providers: the players, by name or index, in this order; all by default.
        rest: what the others do. None (default): they are not in the market, as for
            `ttc_env.load_market(providers=...)`. `"equilibrium"`: they stay, at their part of the
            exact equilibrium of least welfare. Flat actions `[n]`: they stay, and play these.
        max_profiles: most profiles to write out.

    Returns:
        `Payoffs`: `utility`, `[players, strategies of each]` in USD per arriving user (at high beta
        small ones underflow, and zeros look equal), `labels` and `actions` of every axis, and the
        ways to other libraries and back.

    Raises:
        ValueError: more profiles than `max_profiles`, unknown providers, or continuous actions.
        TypeError: neither a market nor an environment.
    """
    market, rules = _parts(game, mechanism)
    chosen = _places(market, providers)
    if rest is None and providers is not None:
        market = market.replace(providers=tuple(market.providers[i] for i in chosen))
        chosen = tuple(range(len(chosen)))
    table = rules.offers(market)
    actions = tuple(np.flatnonzero(~np.isnan(table.quality[i])) for i in chosen)
    shape = tuple(map(len, actions))
    count = int(np.prod([float(size) for size in shape]))
    if not count <= max_profiles:  # NaN allows none
        raise ValueError(
            f"{' x '.join(map(str, shape))} actions are {count:.3g} profiles, more than"
            f" max_profiles={max_profiles}; name fewer players with providers=[...] (and"
            " rest='equilibrium' to keep the others in the market), use prices='fixed', or raise"
            " max_profiles"
        )
    held = _held(market, rules, rest, table.quality)
    held[list(chosen)] = 0
    utility = np.empty((len(chosen), count))
    step = max(1, (1 << 20) // market.num_providers)
    for start in range(0, count, step):
        at = np.unravel_index(np.arange(start, min(start + step, count)), shape)
        profiles = np.repeat(held[:, None], len(at[0]), axis=1)
        for i, own, k in zip(chosen, actions, at, strict=True):
            profiles[i] = own[k]
        played = rules.play(table.take(profiles), market)
        utility[:, start : start + len(at[0])] = played.utility[list(chosen)]
    labels = tuple(_labels(market, rules, i, own) for i, own in zip(chosen, actions, strict=True))
    return Payoffs(market, rules, utility.reshape(-1, *shape), chosen, actions, labels, held)


def _parts(game: Any, mechanism: str | Mechanism | None) -> tuple[Market, Mechanism]:
    if isinstance(game, Market):
        return game, make_mechanism("market" if mechanism is None else mechanism)
    config = getattr(getattr(game, "unwrapped", game), "config", None)
    if config is None or not hasattr(config, "mechanism"):
        raise TypeError(
            f"payoffs needs a Market or an environment of this package, not {type(game).__name__}"
        )
    if mechanism is not None:
        raise ValueError("an environment has its mechanism; give env.unwrapped.market for another")
    if config.continuous_prices:
        raise ValueError(
            "continuous prices have no table of payoffs; make the environment with"
            " actions='discrete'"
        )
    return config.market, config.mechanism


def _places(market: Market, providers: Sequence[str | int] | None) -> tuple[int, ...]:
    if providers is None:
        return tuple(range(market.num_providers))
    if isinstance(providers, str):
        providers = [providers]
    names = market.names
    places = [index("provider", one, len(names), names) for one in providers]
    if not places or len(set(places)) < len(places):
        raise ValueError(f"providers are {list(providers)}; give at least one, each once")
    return tuple(places)


def _held(market: Market, mechanism: Mechanism, rest: Any, quality: Array) -> NDArray[np.intp]:
    n = market.num_providers
    if rest is None:
        return np.zeros(n, dtype=np.intp)
    if isinstance(rest, str):
        if rest != "equilibrium":
            raise ValueError(f"rest is {rest!r}; give 'equilibrium', flat actions, or None")
        solution = mechanism.rule.solve(mechanism, market, tolerance=1e-9)
        return np.array(solution.worst, dtype=np.intp)
    held = np.asarray(rest)
    if (
        held.shape != (n,)
        or not np.issubdtype(held.dtype, np.integer)
        or (held < 0).any()
        or (held >= quality.shape[1]).any()
        or np.isnan(quality[np.arange(n), held]).any()
    ):
        raise ValueError(f"rest must be {n} flat actions that exist, or 'equilibrium'; got {rest}")
    return held.astype(np.intp)


def _labels(market: Market, mechanism: Mechanism, i: int, actions: Any) -> tuple[str, ...]:
    """`level 4`, and the price choice and the report where there is more than one."""
    labels = []
    prices, reports = mechanism.tariff.choices, mechanism.reports(market)
    for level, price, report in zip(*mechanism.split(actions, market), strict=True):
        words = [f"level {market.providers[i].levels[level]:g}"]
        words += [f"price {prices[price]:g}"] if len(prices) > 1 else []
        words += [str(reports[report])] if len(reports) > 1 else []
        labels.append(", ".join(words))
    return tuple(labels)


def _library(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{package} is not installed: pip install {package}") from error


__all__ = ["Payoffs", "payoffs"]
