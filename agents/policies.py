"""What was learned, kept and played again: `load_policy("results/train/my_run", seed=0)`.

A policy file holds plain arrays: the actions' chances, the layers of a network, or a Q-table. It is
played with NumPy alone, so that neither torch nor Stable-Baselines3 is needed, and any number of
environments is played at once, whatever the number that it was trained on.

| form | learners | plays |
| --- | --- | --- |
| `mixed` | all that learn one strategy | draws from the strategy, whatever it sees |
| `network` | PPO, MAPPO, A2C, DQN | the best action for what it sees |
| `memory` | Q-learning | the best action after the last round, which it reads off what it sees |
| `continuous` | PPO with continuous actions | the mode of its distribution for what it sees |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agents import checkpoint
from agents.base import Actions, pure, sample
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.envs.observations import ObservationLayout
from ttc_env.envs.vector import vector_env
from ttc_env.game.types import Array

FOLDER = "policies"
CURVES = "curves.csv"
"""A run on curves of one's own keeps a copy of them, so that its folder can be moved."""


@dataclasses.dataclass(eq=False)
class Policy:
    """What one provider has learned under one seed. Made by `load_policy`.

    Call it with what the provider sees; it answers with an action of the environment:

        action = policy(observation)            # [d] -> an int, or an array of parts
        actions = policy(observations)          # [B, d] -> [B], or [B, parts]

    With continuous actions parts are float32 numbers in [-1, 1], `[parts]` or `[B, parts]`.

    so that it is a policy for `ttc_env/Provider-v0`, for a provider of a PettingZoo environment,
    and for a column of `vector_env` with any number of environments. Mixed strategies are drawn
    from a generator of the policy's own: `policy.rng`.
    """

    learner: str
    provider: int
    grid: tuple[int, ...]  # choices of each part of an action, as the environment has them
    content: Mapping[str, Any]  # the policy file's part about this provider
    market: int  # which of the parallel markets of its training, where each has learned its own
    options: Mapping[str, Any]  # of the environment it was trained in: `parallel_env(**options)`
    rng: np.random.Generator

    @property
    def num_actions(self) -> int:
        return int(np.prod(self.grid))

    @cached_property
    def config(self) -> EnvConfig:
        """The environment that it was trained in."""
        return make_config(**self.options)

    def strategy(self, observation: Array | None = None, market: Any = None) -> Array:
        """A probability for every flat action: `[B, a]` for observations `[B, d]`.

        Without an observation: `[1, a]`, the play that training ended with (a network needs one).

        Args:
            market: which of the parallel markets of its training, a number or one a row `[B]`;
                `self.market` if None. Learners of one strategy learn another in each market.

        Raises:
            ValueError: a network without an observation, or one of another length than in training;
                continuous actions, which are no list.
        """
        content = self.content
        markets = np.atleast_1d(np.asarray(self.market if market is None else market))
        seen = None if observation is None else np.asarray(observation, np.float32)
        rows = len(markets) if seen is None else len(seen)
        match str(content["form"]):
            case "mixed":
                chance = content["strategy"][markets]
                return np.broadcast_to(chance, (rows, chance.shape[1]))
            case "network":
                if seen is None:
                    raise ValueError("a network's play depends on what it sees; pass observations")
                return pure(_network(content, seen)[None], self.num_actions)[0].T
            case "memory":
                at = np.broadcast_to(content["at"][markets], rows)
                if seen is not None:
                    at = np.where(self._played(seen), self._recalled(seen), at)
                table = content["table"][np.broadcast_to(markets, rows), at]
                return pure(table.argmax(axis=1)[None], self.num_actions)[0].T
            case "continuous":
                raise ValueError(
                    "continuous actions are no list with a probability each; call the policy"
                )
            case form:
                raise ValueError(
                    f"policy form {form!r} is unknown; the file was written by a newer version"
                )

    def flat(self, observation: Array) -> Actions:
        """Flat actions `[B]` (over level, price choice, report) for observations `[B, d]`."""
        chance = self.strategy(observation)
        uniform = self.rng.random(len(chance)) if self.content["form"] == "mixed" else np.zeros(1)
        return sample(chance.T[None], np.broadcast_to(uniform, len(chance))[None])[0]

    def __call__(self, observation: Array) -> Any:
        seen = np.asarray(observation, np.float32)
        if seen.ndim not in (1, 2):
            raise ValueError(
                f"observation has shape {seen.shape}; give one provider's, [d], or [B, d] of B"
                " environments"
            )
        rows = np.atleast_2d(seen)
        if self.content["form"] == "continuous":
            chosen = _mode(self.content, rows)
        else:
            parts = np.stack(np.unravel_index(self.flat(rows), self.grid), axis=1)
            chosen = parts[:, 0] if len(self.grid) == 1 else parts
        return chosen if seen.ndim == 2 else chosen[0]

    def __repr__(self) -> str:
        return f"Policy({self.learner}, provider_{self.provider}, {self.content['form']})"

    # --- Q-learning's memory: everybody's last actions, read off an observation ---

    @cached_property
    def _places(self) -> Mapping[str, slice]:
        return ObservationLayout(self.config).slices

    def _played(self, seen: Array) -> Array:
        """`[B]` whether a round has been played."""
        return seen[:, self._places["played"].start] > 0

    def _recalled(self, seen: Array) -> Actions:
        """The state `[B]` after the round that observations `[B, d]` show."""
        config, joint = self.config, bool(self.content["joint"])
        if config.information == "own" or (config.information != "full" and not joint):
            raise ValueError(
                "a Q-learner plays by what everybody did last, which"
                f" information={config.information!r} hides; it can be scored, not played"
            )
        # The action of each provider whose quality and price (where that is hidden, whose price)
        # are those shown.
        known = [0, 1] if config.information == "full" else [1]
        shown = np.stack([seen[:, self._places[f"public_{x}"]] for x in ("quality", "price")], 2)
        distance = np.abs(shown[:, :, None] - self._shown[None])[..., known].sum(axis=3)
        actions = np.where(np.isnan(distance), np.inf, distance).argmin(axis=2)  # [B, n]
        if joint:
            at = np.zeros(len(seen), dtype=np.intp)
            for i in range(actions.shape[1]):
                at = at * self.num_actions + actions[:, i]
            return at
        levels = np.asarray(config.mechanism.split(actions, config.market)[0])
        share = seen[:, self._places["public_share"]].copy()
        share[:, self.provider] = -1.0
        leader = levels[np.arange(len(levels)), share.argmax(axis=1)]
        return levels[:, self.provider] * self.grid[0] + leader

    @cached_property
    def _shown(self) -> Array:
        """`[n, a, 2]`: the quality and the price of every action as observations show them; NaN
        where the action does not exist. Found by playing every action once.
        """
        options = {**self.options, "infos": "basic", "information": "full", "demand": "expected"}
        n, a = self.config.table.quality.shape
        env = vector_env(a, **options, observations="full", autoreset="disabled")
        env.reset(seed=0)
        parts = np.stack(np.unravel_index(np.arange(a), self.grid), axis=1)
        joint = np.broadcast_to(parts[:, None], (a, n, len(self.grid)))
        seen = env.step(joint if len(self.grid) > 1 else joint[..., 0])[0]
        columns = [seen[:, 0, self._places[f"public_{x}"]].T for x in ("quality", "price")]
        absent = np.isnan(self.config.table.quality)[:, :, None]
        return np.where(absent, np.nan, np.stack(columns, axis=2))


def _network(content: Mapping[str, Any], seen: Array) -> Actions:
    """The best action `[B]` of a multi-layer perceptron."""
    return content["plays"][(_outputs(content, seen) + content["mask"]).argmax(axis=1)]


def _mode(content: Mapping[str, Any], seen: Array) -> Array:
    """The mode `[B, parts]`, in [-1, 1], of the distribution that a multi-layer perceptron gives
    (`agents.ppo_continuous.ContinuousPPO.greedy`).
    """
    first, second = np.split(_outputs(content, seen), 2, axis=1)
    if str(content["distribution"]) == "gaussian":
        return np.tanh(first)
    # Of Beta(1 + a, 1 + b) on [0, 1]: a / (a + b), with a and b softplus.
    a, b = np.logaddexp(0, first), np.logaddexp(0, second)
    return np.clip(2.0 * a / np.maximum(a + b, 1e-6) - 1.0, -1.0, 1.0).astype(np.float32)


def _outputs(content: Mapping[str, Any], seen: Array) -> Array:
    """What comes out of the last layer, `[B, out]`, for observations `[B, d]`."""
    x = seen
    for layer in content["layers"]:
        weight = layer["weight"]  # [in, out]
        if x.shape[-1] != len(weight):
            raise ValueError(
                f"observation has {x.shape[-1]} entries, and the policy was trained on"
                f" {len(weight)}; make the environment with policy.options"
            )
        x = x @ weight + layer["bias"]
        match str(layer["activation"]):
            case "tanh":
                x = np.tanh(x)
            case "relu":
                x = np.maximum(x, 0.0)
    return x


class Policies(Mapping[str, Policy]):
    """All providers' policies under one seed, by agent id. Made by `load_policies`.

        actions = {agent: policies[agent](seen[agent]) for agent in env.agents}    # PettingZoo
        actions = policies.joint(obs.full())                                       # vector_env
        gymnasium.make("ttc_env/Provider-v0", opponent=policies, **policies.options)

    As a policy it reads off the observation which provider it is to play.
    """

    def __init__(self, policies: Sequence[Policy], step: int, seed: int):
        self._policies = {f"provider_{policy.provider}": policy for policy in policies}
        self.step, self.seed = step, seed
        self.options = policies[0].options
        self._identity = ObservationLayout(policies[0].config).slices["identity"]

    def __getitem__(self, agent: str) -> Policy:
        return self._policies[agent]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    @property
    def config(self) -> EnvConfig:
        """The environment that they were trained in."""
        return next(iter(self.values())).config

    def joint(self, observations: Array) -> Array:
        """Everybody's actions, `[B, n]` or `[B, n, parts]`, for observations `[B, n, d]`."""
        return np.stack(
            [policy(observations[:, i]) for i, policy in enumerate(self.values())], axis=1
        )

    def __call__(self, observation: Array) -> Any:
        """The action of the provider that sees `observation` `[d]`."""
        seen = np.asarray(observation)
        return list(self.values())[int(seen[self._identity].argmax())](seen)


def load_policies(run: str | Path, *, seed: int | None = None, draws: int = 0) -> Policies:
    """The policies of all providers that a run of `scripts.train` learned under one seed.

    Args:
        run: the run's folder.
        seed: one of the run's; the first if None.
        draws: seed of the generators that mixed strategies are drawn from.

    Raises:
        ValueError: no policies there, or none of that seed; the message lists those that exist.
    """
    content = read_policies(run, seed)
    options = environment_options(content, Path(run))
    return Policies(
        [
            Policy(
                learner=str(one["learner"]),
                provider=i,
                grid=tuple(int(k) for k in content["grid"]),
                content=one,
                market=0,
                options=options,
                rng=np.random.default_rng([draws, i]),
            )
            for i, one in enumerate(content["providers"])
        ],
        int(content["step"]),
        int(content["seed"]),
    )


def load_policy(
    run: str | Path, *, seed: int | None = None, provider: int | str = 0, draws: int = 0
) -> Policy:
    """What one provider learned under one seed of a run of `scripts.train`.

    Args:
        run: the run's folder.
        seed: one of the run's; the first if None.
        provider: its index, or its agent id (`"provider_0"`).
        draws: seed of the generator that a mixed strategy is drawn from.

    Raises:
        ValueError: no policies there, none of that seed, or no such provider; the message lists
            those that exist.
    """
    policies = load_policies(run, seed=seed, draws=draws)
    name = provider if isinstance(provider, str) else f"provider_{provider}"
    if name not in policies:
        raise ValueError(f"provider is {provider!r}; the run has {', '.join(policies)}")
    return policies[name]


def of_seed(content: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Of what `Agent.policies` says about one provider under many seeds, the k-th seed's part."""
    own = ("strategy", "table", "at")
    return {name: x[k : k + 1] if name in own else x for name, x in content.items()}


def saved_seeds(run: str | Path) -> list[int]:
    """The seeds whose policies are kept in a run's folder, in rising order."""
    return sorted(
        int(path.stem.removeprefix("seed_")) for path in (Path(run) / FOLDER).glob("seed_*.npz")
    )


def read_policies(run: str | Path, seed: int | None = None) -> dict[str, Any]:
    """The content of a policy file. Raises ValueError as `load_policies`."""
    seeds = saved_seeds(run)
    if not seeds:
        raise ValueError(
            f"{run} holds no policies; train first: python -m scripts.train --out {run}"
        )
    if seed is not None and seed not in seeds:
        raise ValueError(
            f"{run} holds no policy of seed {seed}; it has seeds {', '.join(map(str, seeds))}"
        )
    return checkpoint.load(Path(run) / FOLDER / f"seed_{seeds[0] if seed is None else seed}.npz")


def environment_options(content: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Options of the environment that a policy was trained in, for `parallel_env(**options)`."""
    options = {
        name: tuple(x) if isinstance(x, list) and name != "providers" else x
        for name, x in content["environment"].items()
    }
    if (run / CURVES).exists():
        options["benchmark"] = str(run / CURVES)
    return options
