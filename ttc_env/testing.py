"""`check_env`: a conformance suite for parallel environments, stricter than PettingZoo's.

PettingZoo's own tests compare one seeded step, and never ask whether observations lie in their
space. This one checks, for whole episodes:

1. spaces: the same object on every call, equal for all agents, sampling and masks agree;
2. observations: in their space on every step, exact dtype and shape, finite; so is the state;
3. rewards are finite floats, flags are bools, dict keys are the live agents, infos' masks fit
   their spaces (for a MultiDiscrete: one array, the parts one after the other; for a Box: none);
4. seeds: two environments with one seed agree on every step of two episodes; the second episode
   differs from the first where the first episode drew random numbers only if the generator goes on;
5. horizon: all agents are truncated together after `max_cycles`, final observations are returned,
   `agents` is empty, a further step raises;
6. hygiene: the global random state is untouched, actions are not written to, returned arrays are
   not aliased from step to step;
7. pickling: a copy made mid-episode goes on exactly as the original does.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


def check_env(
    factory: Callable[[], ParallelEnv[Any, Any, Any]], *, seed: int = 0, max_rounds: int = 1000
) -> None:
    """Raise AssertionError with a message for the reader unless environments made by `factory` keep
    the contract above.

    Args:
        factory: makes a new environment on each call, for instance `lambda:
            ttc_env.parallel_env("auction", max_cycles=10)`.
        seed: for the episodes played.
        max_rounds: an episode longer than this is reported as endless.
    """
    _check_spaces(factory())
    before = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
    )
    first = _episodes(factory(), seed, max_rounds)
    second = _episodes(factory(), seed, max_rounds)
    after = (random.getstate(), np.random.get_state())  # noqa: NPY002
    assert _same(before, after), (
        "the global random state changed: draw from the environment's own generator"
    )
    assert len(first) == len(second), (
        f"two environments with seed {seed} played {len(first)} and {len(second)} rounds"
    )
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        assert _same(a, b), (
            f"two environments with seed {seed} differ at record {t}: some randomness does not come"
            " from the seed"
        )
    _check_pickle(factory(), seed)
    _check_aliasing(factory(), seed)


def _check_spaces(env: ParallelEnv[Any, Any, Any]) -> None:
    assert env.possible_agents, "possible_agents is empty"
    first = env.possible_agents[0]
    for agent in env.possible_agents:
        for name in ("observation_space", "action_space"):
            space = getattr(env, name)(agent)
            assert space is getattr(env, name)(agent), (
                f"{name}({agent!r}) returns a new object on each call; keep one"
            )
            assert space == getattr(env, name)(first), (
                f"{name}({agent!r}) differs from {name}({first!r})"
            )


def _check_observation(env: ParallelEnv[Any, Any, Any], agent: Any, observation: Any) -> None:
    space = env.observation_space(agent)
    if isinstance(space, spaces.Box):
        assert observation.dtype == space.dtype, (
            f"{agent}: observation is {observation.dtype}, its space {space.dtype}"
        )
        assert observation.shape == space.shape, (
            f"{agent}: observation has shape {observation.shape}, its space {space.shape}"
        )
        assert np.isfinite(observation).all(), (
            f"{agent}: observation holds NaN or infinity at"
            f" {np.flatnonzero(~np.isfinite(observation))}"
        )
    assert space.contains(observation), f"{agent}: observation {observation} is not in {space}"


def _sample(env: ParallelEnv[Any, Any, Any], agent: Any, info: dict[str, Any]) -> Any:
    """A random action that exists."""
    space, mask = env.action_space(agent), info.get("action_mask")
    if isinstance(space, spaces.MultiDiscrete) and isinstance(mask, np.ndarray):
        assert mask.shape == (space.nvec.sum(),), (
            f"{agent}: action_mask has shape {mask.shape}; {space} needs ({space.nvec.sum()},), the"
            " parts one after the other"
        )
        mask = tuple(np.split(mask, np.cumsum(space.nvec)[:-1]))
    if isinstance(space, spaces.Box):
        assert "action_mask" not in info, f"{agent}: a Box has no action_mask; leave the key out"
    return space.sample(mask)


def _seed_spaces(env: ParallelEnv[Any, Any, Any], seed: int) -> None:
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(seed + k)


def _episodes(env: ParallelEnv[Any, Any, Any], seed: int, max_rounds: int) -> list[Any]:
    """Two episodes, the first seeded, the second going on; every check on the way.

    Returns all that was seen.
    """
    seen: list[Any] = []
    _seed_spaces(env, seed)
    for episode in range(2):
        observations, infos = env.reset(seed=seed) if episode == 0 else env.reset()
        assert list(env.agents) == list(env.possible_agents), "reset() must bring back every agent"
        seen.append((observations, infos))
        for _ in range(max_rounds):
            agents = list(env.agents)
            for agent in agents:
                _check_observation(env, agent, observations[agent])
                assert isinstance(infos[agent], dict), (
                    f"{agent}: info is {type(infos[agent])}, not a dict"
                )
            if hasattr(env, "state_space"):
                assert env.state_space.contains(env.state()), f"state() is not in {env.state_space}"
            actions = {agent: _sample(env, agent, infos[agent]) for agent in agents}
            given = copy.deepcopy(actions)
            observations, rewards, terminations, truncations, infos = env.step(actions)
            assert _same(actions, given), "step() wrote into its argument"
            for name, result in (
                ("observations", observations),
                ("rewards", rewards),
                ("terminations", terminations),
                ("truncations", truncations),
                ("infos", infos),
            ):
                assert set(result) == set(agents), (
                    f"step() returned {name} for {sorted(result)}, not for the live agents {agents}"
                )
            for agent in agents:
                _check_observation(env, agent, observations[agent])
                assert isinstance(rewards[agent], float), (
                    f"{agent}: reward is {type(rewards[agent])}, not float"
                )
                assert np.isfinite(rewards[agent]), f"{agent}: reward is {rewards[agent]}"
                for flag in (terminations[agent], truncations[agent]):
                    assert isinstance(flag, bool), f"{agent}: a flag is {type(flag)}, not bool"
            seen.append((observations, rewards, terminations, truncations, infos))
            if not env.agents:
                assert len({(terminations[a], truncations[a]) for a in agents}) == 1, (
                    "agents must end together"
                )
                break
        else:
            raise AssertionError(f"an episode did not end within {max_rounds} rounds")
        try:
            env.step(given)
        except Exception:
            pass
        else:
            raise AssertionError("step() after the end of an episode must raise")
    return seen


def _check_pickle(env: ParallelEnv[Any, Any, Any], seed: int) -> None:
    _seed_spaces(env, seed)
    _, infos = env.reset(seed=seed)
    actions = {agent: _sample(env, agent, infos[agent]) for agent in env.agents}
    env.step(actions)
    if not env.agents:
        return
    twin = pickle.loads(pickle.dumps(env))
    assert _same(env.step(actions), twin.step(actions)), (
        "a pickled copy does not go on as the original does"
    )


def _check_aliasing(env: ParallelEnv[Any, Any, Any], seed: int) -> None:
    _seed_spaces(env, seed)
    observations, infos = env.reset(seed=seed)
    actions = {agent: _sample(env, agent, infos[agent]) for agent in env.agents}
    kept = copy.deepcopy(observations)
    env.step(actions)
    assert _same(observations, kept), (
        "step() wrote into the observations that reset() returned; return new arrays"
    )


def _same(a: Any, b: Any) -> bool:
    """Deep equality that takes NaN as equal to itself, and 0.1 as different from its neighbour."""
    if isinstance(a, dict):
        return (
            isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
        )
    if isinstance(a, (list, tuple)):
        return (
            type(a) is type(b)
            and len(a) == len(b)
            and all(_same(x, y) for x, y in zip(a, b, strict=True))
        )
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
        )
    return bool(a == b) or (a != a and b != b)
