"""Stable-Baselines3 on `ttc_env.vector_env`, without a Python loop over games or providers.

One model for all providers (parameter sharing; the observation says which provider it is):

    env = shared_vec_env(64, prices="fixed")
    PPO("MlpPolicy", env).learn(200_000)

One model for each, all learning at the same time in the same games:

    envs = independent_vec_envs(64, prices="fixed")
    models = [PPO("MlpPolicy", env) for env in envs]
    learn(models, 200_000)

Rewards are USD per round; wrap an environment in Stable-Baselines3's `VecNormalize` to scale them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from ttc_env.envs.vector import VectorMarketEnv, vector_env

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError(
        "ttc_env.envs.sb3 needs Stable-Baselines3: pip install stable-baselines3"
    ) from error


class _Batch:
    """A `VectorMarketEnv` as Stable-Baselines3 reads one: an episode's last observation in infos.

    Arrays are `[games, n, ...]`.
    """

    def __init__(self, env: VectorMarketEnv):
        if not isinstance(env, VectorMarketEnv):
            raise TypeError(f"a VecEnv is made of a ttc_env.vector_env, not of {env!r}")
        if env.backend == "torch":
            raise ValueError(
                "Stable-Baselines3 takes NumPy arrays; use backend='numpy' or backend='numba'"
            )
        if env.autoreset != "same_step":
            raise ValueError("Stable-Baselines3 needs autoreset='same_step'")
        self.env = env

    def masks(self) -> np.ndarray:
        """`[games, n, k]` int8: the actions that there are in the coming round.

        Raises:
            ValueError: continuous actions, which have no mask.
        """
        masks = self.env.action_mask()
        if masks is None:
            raise ValueError("continuous actions have no mask; use actions='discrete' or 'flat'")
        return masks[np.arange(self.env.num_envs) % len(masks)]

    def reset(self, seed: int | None) -> np.ndarray:
        return _full(self.env.reset(seed=seed)[0])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Observations, rewards in USD, and, where the episode is over, its last observations."""
        seen, rewards, _, truncations, infos = self.env.step(actions)
        last = _full(infos["final_obs"]) if truncations[0] else None
        return _full(seen), rewards.astype(np.float32), last


def _full(observations: Any) -> np.ndarray:
    """`[games, n, d]`, in new memory."""
    full = observations if isinstance(observations, np.ndarray) else observations.full()
    return np.array(full, dtype=np.float32, order="C")


def _infos(count: int, last: np.ndarray | None) -> list[dict[str, Any]]:
    """What Stable-Baselines3 wants to know of each environment after a step. last: `[count, d]`."""
    if last is None:
        return [{} for _ in range(count)]
    return [{"terminal_observation": seen, "TimeLimit.truncated": True} for seen in last]


class _Rows(VecEnv):
    """Base: environments of one provider each."""

    _seeds: list[int | None]  # of VecEnv

    def __init__(self, batch: _Batch, num_envs: int):
        self._batch = batch
        self.render_mode = None
        seen = gymnasium.spaces.Box(-1.0, 1.0, (batch.env.layout.size,), np.float32)
        super().__init__(num_envs, seen, batch.env.config.action_space())

    def action_masks(self) -> np.ndarray:
        """`[num_envs, k]` int8, 1 = available in the coming round: what sb3-contrib's MaskablePPO
        asks for.

        Raises:
            ValueError: continuous actions, which have no mask.
        """
        raise NotImplementedError

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.asarray(actions)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name == "action_masks" and self._batch.env.config.continuous:
            raise AttributeError(attr_name)  # so that MaskablePPO knows that there are none
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(
            f"{attr_name} cannot be set: all environments are one batch; make another"
        )

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        rows = list(self._get_indices(indices))
        if method_name == "action_masks":
            return list(self.action_masks()[rows])
        raise AttributeError(f"environments of this batch have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def _seed(self) -> int | None:
        """What `seed` asked for, once."""
        seed, self._seeds = self._seeds[0], [None] * self.num_envs
        return seed

    def close(self) -> None:
        """Nothing is held open."""


class SharedVecEnv(_Rows):
    """All providers of all games as environments of one model: `games x n` of them, environment
    `g n + i` is provider i of game g.
    """

    def __init__(self, env: VectorMarketEnv):
        batch = _Batch(env)
        self._shape = env.num_envs, env.num_agents
        count = env.num_envs * env.num_agents
        super().__init__(batch, count)

    def action_masks(self) -> np.ndarray:
        return self._flat(self._batch.masks())

    def reset(self) -> np.ndarray:
        return self._flat(self._batch.reset(self._seed()))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        actions = self._actions.reshape(*self._shape, *self._actions.shape[1:])
        seen, rewards, last = self._batch.step(actions)
        infos = _infos(self.num_envs, None if last is None else self._flat(last))
        dones = np.full(self.num_envs, last is not None)
        return self._flat(seen), rewards.reshape(-1), dones, infos

    def _flat(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.num_envs, -1)


class IndependentVecEnv(_Rows):
    """One provider of all games. Made by `independent_vec_envs`, stepped by `learn`."""

    def __init__(self, meeting: _Meeting, provider: int):
        batch = meeting.batch
        self._meeting, self.provider = meeting, provider
        super().__init__(batch, batch.env.num_envs)

    def action_masks(self) -> np.ndarray:
        return self._batch.masks()[:, self.provider]

    def reset(self) -> np.ndarray:
        return self._meeting.reset(self.provider, self._seed())[:, self.provider]

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        seen, rewards, last = self._meeting.step(self.provider, self._actions)
        infos = _infos(self.num_envs, None if last is None else last[:, self.provider])
        dones = np.full(self.num_envs, last is not None)
        return seen[:, self.provider], rewards[:, self.provider], dones, infos


class _Meeting:
    """Where the providers' environments meet for a round.

    Stable-Baselines3's `learn` steps one environment. Here n of them run, each in a thread, of
    which one runs at a time: it goes on until it asks for a round, and hands over to the next;
    the last one plays the round. So the order of everything is fixed, and a seed repeats a run.
    """

    def __init__(self, batch: _Batch):
        self.batch = batch
        self.n = batch.env.num_agents
        self._lock = threading.Condition()
        self._turn = -1  # whose thread runs; -1: none was started
        self._ended: dict[int, Any] = {}  # model of a provider whose training has ended
        self._asked: dict[int, Any] = {}  # actions, or None for a reset
        self._seed: int | None = None
        self._seen: np.ndarray | None = None
        self._result: Any = None
        self._error: BaseException | None = None

    def reset(self, provider: int, seed: int | None) -> np.ndarray:
        """Observations `[games, n, d]` of a new episode, once everybody has asked for one."""
        self._seed = seed if self._seed is None else self._seed
        return self._meet(provider, None)

    def step(self, provider: int, actions: np.ndarray) -> Any:
        """A round, once everybody has acted; see `_Batch.step`."""
        return self._meet(provider, actions)

    def _meet(self, provider: int, asked: Any) -> Any:
        with self._lock:
            if self._turn != provider:
                raise RuntimeError(
                    "these environments are stepped together: train all their models with"
                    " ttc_env.envs.sb3.learn(models, total_timesteps)"
                )
            self._asked[provider] = asked
            self._pass_on(provider)
            self._lock.wait_for(lambda: self._turn == provider or self._error is not None)
            if self._error is not None:
                raise _Stopped
            return self._result

    def _pass_on(self, provider: int) -> None:
        """Play the round if everybody has asked for it, and give the turn to the next."""
        if len(self._asked) + len(self._ended) == self.n and self._asked:
            self._play()
            provider = -1
        others = [i for i in range(self.n) if i not in self._ended]
        self._turn = next((i for i in others if i > provider), -1)
        self._lock.notify_all()

    def _play(self) -> None:
        asked, self._asked = self._asked, {}
        if all(actions is None for actions in asked.values()):
            self._result = self._seen = self.batch.reset(self._seed)
            self._seed = None
            return
        if any(actions is None for actions in asked.values()):
            raise RuntimeError(
                "some models asked for a new episode while others played on; give all of them the"
                " same total_timesteps and reset_num_timesteps"
            )
        assert self._seen is not None
        for i, model in self._ended.items():  # it has learned all it will, and plays on
            scaled = model.get_vec_normalize_env()
            seen = self._seen[:, i] if scaled is None else scaled.normalize_obs(self._seen[:, i])
            asked[i] = model.predict(seen)[0]
        actions = np.stack([asked[i] for i in range(self.n)], axis=1)
        self._result = self.batch.step(actions)
        self._seen = self._result[0]

    def run(self, provider: int, model: Any, total_timesteps: int, options: dict[str, Any]) -> None:
        """A thread's work."""
        with self._lock:
            self._lock.wait_for(lambda: self._turn == provider or self._error is not None)
        try:
            if self._error is None:
                model.learn(total_timesteps, **options)
        except _Stopped:
            return
        except BaseException as error:
            self.stop(error)
            return
        with self._lock:
            self._ended[provider] = model
            try:
                self._pass_on(provider)
            except BaseException as error:
                self.stop(error)

    def start(self) -> None:
        """Nobody has asked for anything, and it is the first one's turn."""
        self._ended, self._asked, self._error, self._turn = {}, {}, None, 0

    def stop(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._lock.notify_all()

    def end(self) -> None:
        self._turn = -1
        if self._error is not None:
            raise self._error


class _Stopped(Exception):
    """Another model's training failed."""


def shared_vec_env(num_envs: int, **options: Any) -> SharedVecEnv:
    """Environments for one model that plays all providers.

    Args:
        num_envs: how many games; the model sees `num_envs x providers` environments.
        options: of `ttc_env.vector_env`.
    """
    return SharedVecEnv(vector_env(num_envs, **options))


def independent_vec_envs(num_envs: int, **options: Any) -> list[IndependentVecEnv]:
    """One environment for each provider's own model, of the same `num_envs` games; see `learn`.

    options: of `ttc_env.vector_env`.
    """
    meeting = _Meeting(_Batch(vector_env(num_envs, **options)))
    return [IndependentVecEnv(meeting, i) for i in range(meeting.n)]


def learn(models: Sequence[Any], total_timesteps: int, **options: Any) -> None:
    """Train one model per provider, all at the same time in the same games, each by its own
    `learn(total_timesteps)`. Algorithms may differ. With a seed each, a run repeats itself.

    A model that ends before the others (total_timesteps is rounded up to whole rollouts, which
    differ between algorithms) plays on as it is.

    Args:
        models: one for each environment of `independent_vec_envs`, wrapped or not, in their order.
        options: of the models' `learn`, such as `progress_bar=False`. A `callback` is one list
            with an entry for each model.

    Raises:
        ValueError: models of other environments, or in another order.
    """
    seats: list[Any] = [getattr(model.get_env(), "unwrapped", None) for model in models]
    for i, seat in enumerate(seats):
        if not (isinstance(seat, IndependentVecEnv) and seat.provider == i):
            raise ValueError(
                f"model {i} must be made with environment {i} of independent_vec_envs(...), but has"
                f" {seat!r}"
            )
    meetings = {seat._meeting for seat in seats}
    if len(meetings) != 1 or len(seats) != seats[0]._meeting.n:
        raise ValueError(
            f"{len(models)} models; give one for each of the environments that one call of"
            " independent_vec_envs(...) made"
        )
    (meeting,) = meetings
    callbacks = options.pop("callback", None) or [None] * meeting.n
    threads = [
        threading.Thread(
            target=meeting.run,
            args=(i, model, total_timesteps, {**options, "callback": callbacks[i]}),
            daemon=True,
        )
        for i, model in enumerate(models)
    ]
    meeting.start()
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C
        meeting.stop(error)
        for thread in threads:
            thread.join()
    meeting.end()
