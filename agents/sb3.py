"""PPO, A2C and DQN of Stable-Baselines3, one model per provider, all learning at the same time in
the same markets.

Stable-Baselines3 owns its loop: `learn()` steps one environment with one model. Several models in
one market need the loop turned inside out (DLR-RM/stable-baselines3 issues 69 and 1575). Here the
arena owns it, and every model is driven in lock-step by the pieces that `learn()` itself calls: the
policy acts, `rollout_buffer.add` or `replay_buffer.add` records, and `train()` runs when the buffer
is full. Training is a plain loop without threads; with a fixed seed and one torch thread it repeats
itself exactly. A model sees many parallel copies of the market, which all models share.

Rewards pass through `agents.scale` (log profit by default). The discount is 0 by default: a round's
profit depends on that round's actions alone. With a discount, PPO's `gae_lambda` of 0.95 adds later
rounds' noise to each advantage; 0 does not (`python -m baselines.variations` measures both).
Hyperparameters are one set for all games.

`share=True` trains one model for all its providers (parameter sharing); the observation says which
provider it is. On the price grid a shared PPO does not come within 1% of the equilibrium's profits:
providers differ, and one network must tell them apart (`python -m baselines.variations` measures
it).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from agents.arena import NotFinite
from agents.base import Actions, Agent, Feedback, Role, options_of, pure
from agents.checks import fraction, not_negative, positive, whole
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array

RANGES: Mapping[str, Callable[[str, Any], float]] = {
    **dict.fromkeys(
        ("n_steps", "n_epochs", "batch_size", "buffer_size", "target_update_interval"), whole
    ),
    "learning_starts": functools.partial(whole, least=0),
    **dict.fromkeys(
        (
            "learning_rate",
            "clip_range",
            "clip_range_vf",
            "max_grad_norm",
            "target_kl",
            "rms_prop_eps",
        ),
        positive,
    ),
    **dict.fromkeys(
        (
            "gamma",
            "gae_lambda",
            "tau",
            "exploration_fraction",
            "exploration_initial_eps",
            "exploration_final_eps",
        ),
        fraction,
    ),
    **dict.fromkeys(("ent_coef", "vf_coef"), not_negative),
}
"""What numbers options of Stable-Baselines3's classes may be."""


class Shell(VecEnv):
    """Spaces and a number of environments: all that a model needs to be built.

    It is never stepped.
    """

    def __init__(self, num_envs: int, observation_size: int, num_actions: int):
        self.render_mode = None
        super().__init__(
            num_envs,
            spaces.Box(-1.0, 1.0, (observation_size,), np.float32),
            spaces.Discrete(num_actions),
        )

    def _never(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "models that learn together are stepped by agents.arena.Arena, not by their own learn()"
        )

    reset = step_async = step_wait = env_method = set_attr = _never

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def close(self) -> None:
        """Nothing is held open."""


class SB3Agent(Agent):
    """Base: one model per provider (or one for all), fed by the arena.

    Args:
        share: one model for all providers.
        scale: "log" or "raw", what models learn from (`agents.scale`).
        device: torch's name of a device.
        options: keyword arguments of the Stable-Baselines3 class, over the defaults here.
    """

    stochastic = True
    learns = True
    needs_observation = True
    parallel = True
    algorithm: ClassVar[type[BaseAlgorithm]]
    defaults: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        role: Role,
        share: bool = False,
        scale: str = "log",
        device: str = "cpu",
        **options: Any,
    ):
        super().__init__(role)
        self.share, self.scale = bool(share), check_scale(self.name, scale)
        k, a, seeds = role.shape
        self._copies = k * seeds if self.share else seeds
        self._absent_to = role.existing
        chosen = {**self.defaults, **self.sized(self._copies), **options}
        self.check(chosen)
        self.models: list[Any] = []
        self._random: list[tuple[Any, Any, Any]] = []
        for i in role.index[:1] if self.share else role.index:
            seed = int(np.random.SeedSequence([*role.seeds[:1], i, 3]).generate_state(1)[0])
            with _borrowed_generators(None) as state:
                shell = Shell(self._copies, role.observation_size, a)
                model = self.algorithm(
                    "MlpPolicy",
                    shell,
                    seed=seed,
                    device=device,
                    **chosen,
                )
                model.set_logger(Logger(folder=None, output_formats=[]))
            self.models.append(model)
            self._random.append(state[0])
        self._observation = np.zeros((k, seeds, role.observation_size), np.float32)

    @classmethod
    def options(cls) -> dict[str, Any]:
        ours = ("policy", "env", "seed", "verbose", "tensorboard_log", "_init_setup_model")
        own = options_of(SB3Agent.__init__, ("role",))
        return {**own, **options_of(cls.algorithm.__init__, ours)}

    @classmethod
    def sized(cls, copies: int) -> dict[str, Any]:
        """Defaults that depend on the number of markets that a model learns from."""
        return {}

    def check(self, options: Mapping[str, Any]) -> None:
        """Stable-Baselines3 itself takes any number, and fails in the middle, or learns nothing.

        Raises:
            ValueError: an option out of range.
        """
        for name, value in options.items():
            if value is None or callable(value):  # "not at all", or a schedule
                continue
            if name in RANGES:
                RANGES[name](f"{self.name}: {name}", value)

    @contextlib.contextmanager
    def _own_generators(self, j: int) -> Iterator[None]:
        """Model j's generators in place of the global ones, which Stable-Baselines3 draws from."""
        with _borrowed_generators(self._random[j]) as state:
            yield
        self._random[j] = state[0]

    def _split(self, values: Array) -> list[Array]:
        """`[k, seeds, ...]` as one array per model, `[copies, ...]`."""
        return [values.reshape(-1, *values.shape[2:])] if self.share else list(values)

    def _joined(self, parts: list[Array]) -> Array:
        """The inverse of `_split`: `[k, seeds, ...]`."""
        stacked = np.stack(parts)
        k, _, seeds = self.role.shape
        return stacked.reshape(k, seeds, *stacked.shape[2:])

    def act(self, observation: Array | None = None) -> Actions:
        assert observation is not None
        self._observation = observation
        chosen = []
        for j, (model, seen) in enumerate(zip(self.models, self._split(observation), strict=True)):
            with self._own_generators(j):
                chosen.append(self.choose(j, model, seen))
        return self._existing(self._joined(chosen))

    def _existing(self, actions: Actions) -> Actions:
        return self._absent_to[np.arange(len(actions))[:, None], actions]

    def choose(self, j: int, model: Any, seen: Array) -> Actions:
        """Model j's actions for the observations `seen` `[copies, d]`, with exploration."""
        raise NotImplementedError

    def update(self) -> None:
        feedback = self.last
        assert feedback is not None
        assert feedback.observation is not None
        self.t += 1
        following = (
            feedback.first_observation
            if feedback.first_observation is not None
            else feedback.observation
        )
        reward = scaled(feedback.reward, self.scale)
        parts = zip(
            self.models,
            *(self._split(x) for x in (self._observation, reward, feedback.observation, following)),
            strict=True,
        )
        for j, (model, seen, earned, final, first) in enumerate(parts):
            model.num_timesteps += self._copies
            model._current_progress_remaining = max(0.0, 1.0 - self.t / self.role.horizon)
            with self._own_generators(j):
                self.learn(j, model, seen, earned, final, first, feedback)
        self._observation = following

    def learn(
        self,
        j: int,
        model: Any,
        seen: Array,
        reward: Array,
        final: Array,
        first: Array,
        feedback: Feedback,
    ) -> None:
        """Record a round, and train when it is time. final: the observation after the round; first:
        the next one acted on (of the next episode, if this one is over).
        """
        raise NotImplementedError

    def _check(self, j: int, model: Any) -> None:
        for name, parameter in model.policy.named_parameters():
            finite = torch.isfinite(parameter).all() and (
                parameter.grad is None or torch.isfinite(parameter.grad).all()
            )
            if not finite:
                who = "all providers (shared)" if self.share else f"provider_{self.role.index[j]}"
                raise NotFinite(
                    f"gradient of {name} is not finite in round {self.t} for {who}, learner"
                    f" {self.name}, {self.role.description}"
                )

    def greedy(self, observation: Array | None = None) -> Array:
        seen = self._observation if observation is None else observation
        parts = [
            model.predict(part, deterministic=True)[0]
            for model, part in zip(self.models, self._split(seen), strict=True)
        ]
        return pure(self._existing(self._joined(parts)), self.role.shape[1])

    def strategy(self) -> Array:
        return self.greedy()

    def policies(self) -> list[dict[str, Any]]:
        models = self.models * len(self.role.index) if self.share else self.models
        a = self.role.shape[1]
        return [
            {
                "form": "network",
                "layers": _layers(self.network(model)),
                "mask": np.zeros(a, np.float32),
                "plays": plays,
            }
            for model, plays in zip(models, self._absent_to, strict=True)
        ]

    def network(self, model: Any) -> list[torch.nn.Module]:
        """The modules through which an observation goes to the actions' scores."""
        raise NotImplementedError

    def diagnostics(self) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for i, model in zip(self.role.index, self.models, strict=False):
            values.update(
                {
                    f"provider_{i}/{name}": float(x)
                    for name, x in model.logger.name_to_value.items()
                    if np.isscalar(x)
                }
            )
        return values

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, generators, and the rollout in progress.

        DQN's replay buffer is left out: it fills again after a resume.
        """
        content = io.BytesIO()
        torch.save(
            [
                {
                    "policy": m.policy.state_dict(),
                    "optimizer": m.policy.optimizer.state_dict(),
                    **self.extra_state(m),
                }
                for m in self.models
            ],
            content,
        )
        generators = [
            [_jsonable(p), [n[0], n[1].tolist(), *n[2:]], t.tolist()] for p, n, t in self._random
        ]
        return {
            "t": self.t,
            "models": np.frombuffer(content.getvalue(), np.uint8),
            "generators": json.dumps(generators),
            "timesteps": self.models[0].num_timesteps,
            "observation": self._observation,
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        self.t = int(content["t"])
        saved = torch.load(
            io.BytesIO(np.asarray(content["models"], np.uint8).tobytes()), weights_only=True
        )
        for model, state in zip(self.models, saved, strict=True):
            model.policy.load_state_dict(state["policy"])
            model.policy.optimizer.load_state_dict(state["optimizer"])
            model.num_timesteps = int(content["timesteps"])
            self.load_extra_state(model, state)
        self._random = [
            (
                (p[0], tuple(p[1]), p[2]),
                (n[0], np.array(n[1], np.uint32), *n[2:]),
                torch.tensor(t, dtype=torch.uint8),
            )
            for p, n, t in json.loads(str(content["generators"]))
        ]
        self._observation = np.asarray(content["observation"], np.float32)

    def extra_state(self, model: Any) -> dict[str, Any]:
        return {"updates": model._n_updates}

    def load_extra_state(self, model: Any, state: Mapping[str, Any]) -> None:
        model._n_updates = state["updates"]


class OnPolicy(SB3Agent):
    """PPO and A2C: record `n_steps` rounds, then train on them."""

    def __init__(self, role: Role, **options: Any):
        super().__init__(role, **options)
        self._pending: list[Any] = [None] * len(self.models)
        self._starts = [np.ones(self._copies, bool) for _ in self.models]
        for model in self.models:
            model.rollout_buffer.reset()

    def network(self, model: Any) -> list[torch.nn.Module]:
        return [*model.policy.mlp_extractor.policy_net, model.policy.action_net]

    def choose(self, j: int, model: Any, seen: Array) -> Actions:
        model.policy.set_training_mode(False)
        with torch.no_grad():
            actions, values, log_probs = model.policy(torch.as_tensor(seen, device=model.device))
        self._pending[j] = (actions.cpu().numpy(), values, log_probs)
        return self._pending[j][0]

    def learn(
        self,
        j: int,
        model: Any,
        seen: Array,
        reward: Array,
        final: Array,
        first: Array,
        feedback: Feedback,
    ) -> None:
        actions, values, log_probs = self._pending[j]
        if feedback.over and model.gamma > 0:
            # A truncated episode goes on in the value function.
            with torch.no_grad():
                reward = (
                    reward
                    + model.gamma
                    * model.policy.predict_values(torch.as_tensor(final, device=model.device))
                    .cpu()
                    .numpy()[:, 0]
                )
        buffer = model.rollout_buffer
        buffer.add(seen, actions.reshape(-1, 1), reward, self._starts[j], values, log_probs)
        self._starts[j] = np.full(self._copies, feedback.over)
        if buffer.full:
            with torch.no_grad():
                last = model.policy.predict_values(torch.as_tensor(first, device=model.device))
            buffer.compute_returns_and_advantage(last_values=last, dones=self._starts[j])
            model.train()
            self._check(j, model)
            buffer.reset()

    _FIELDS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")

    def extra_state(self, model: Any) -> dict[str, Any]:
        buffer = model.rollout_buffer
        rollout = {
            field: torch.as_tensor(getattr(buffer, field)[: buffer.pos].copy())
            for field in self._FIELDS
        }
        return {
            **super().extra_state(model),
            "rollout": rollout,
            "position": buffer.pos,
            "starts": torch.as_tensor(self._starts[self.models.index(model)]),
        }

    def load_extra_state(self, model: Any, state: Mapping[str, Any]) -> None:
        super().load_extra_state(model, state)
        buffer = model.rollout_buffer
        buffer.reset()
        buffer.pos = int(state["position"])
        for field, values in state["rollout"].items():
            getattr(buffer, field)[: buffer.pos] = values.numpy()
        self._starts[self.models.index(model)] = state["starts"].numpy()


class PPOAgent(OnPolicy):
    """Proximal policy optimisation (Schulman et al. 2017) from Stable-Baselines3."""

    name = "ppo"
    algorithm = PPO
    rounds = 400
    defaults: ClassVar[Mapping[str, Any]] = {
        "n_steps": 16,
        "n_epochs": 5,
        "learning_rate": 1e-3,
        "gamma": 0.0,
        "ent_coef": 0.0,
    }

    @classmethod
    def sized(cls, copies: int) -> dict[str, Any]:
        return {"batch_size": max(2, cls.defaults["n_steps"] * copies // 4)}


class A2CAgent(OnPolicy):
    """Advantage actor-critic (Mnih et al. 2016) from Stable-Baselines3."""

    name = "a2c"
    algorithm = A2C
    rounds = 1500
    defaults: ClassVar[Mapping[str, Any]] = {
        "n_steps": 8,
        "learning_rate": 7e-4,
        "gamma": 0.0,
        "normalize_advantage": True,
    }

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options["normalize_advantage"] and options["n_steps"] * self._copies < 2:
            raise ValueError(
                "a2c: n_steps is 1 in a single market, and advantages are divided by their standard"
                " deviation, which takes two samples; give more steps or markets, or"
                " normalize_advantage=false"
            )


class DQNAgent(SB3Agent):
    """Deep Q-learning (Mnih et al. 2015) from Stable-Baselines3.

    Each copy of the market explores on its own.
    """

    name = "dqn"
    algorithm = DQN
    rounds = 1500
    defaults: ClassVar[Mapping[str, Any]] = {
        "buffer_size": 20_000,
        "learning_starts": 500,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "gamma": 0.0,
        "exploration_fraction": 0.6,
        "exploration_final_eps": 0.02,
        "target_update_interval": 10_000,
    }

    def network(self, model: Any) -> list[torch.nn.Module]:
        return list(model.policy.q_net.q_net)

    def choose(self, j: int, model: Any, seen: Array) -> Actions:
        greedy, _ = model.policy.predict(seen, deterministic=True)
        # The model's own generator stands in for the global one here.
        explores = np.random.random(len(greedy)) < model.exploration_rate  # noqa: NPY002
        anything = np.random.randint(self.role.shape[1], size=len(greedy))  # noqa: NPY002
        return np.where(explores, anything, greedy)

    def learn(
        self,
        j: int,
        model: Any,
        seen: Array,
        reward: Array,
        final: Array,
        first: Array,
        feedback: Feedback,
    ) -> None:
        actions = self._split(feedback.action)[j]
        # Truncation is not termination: no done flags, so that values go on past the end of an
        # episode.
        model.replay_buffer.add(
            seen, final, actions.reshape(-1, 1), reward, np.zeros(len(reward)), [{}] * len(reward)
        )
        model._on_step()
        if model.num_timesteps > model.learning_starts:
            model.train(gradient_steps=1, batch_size=model.batch_size)
            self._check(j, model)


def _layers(modules: list[torch.nn.Module]) -> list[dict[str, Any]]:
    """Linear layers and what follows each, as `agents.policies` plays them."""
    layers: list[dict[str, Any]] = []
    for module in modules:
        if isinstance(module, torch.nn.Linear):
            weight, bias = module.weight.detach().cpu().numpy(), module.bias.detach().cpu().numpy()
            layers.append({"weight": weight.T.copy(), "bias": bias, "activation": ""})
        elif isinstance(module, torch.nn.Tanh | torch.nn.ReLU):
            layers[-1]["activation"] = type(module).__name__.lower()
        else:
            raise ValueError(
                f"a policy with a {type(module).__name__} cannot be kept; use Tanh or ReLU"
            )
    return layers


@contextlib.contextmanager
def _borrowed_generators(state: tuple[Any, Any, Any] | None) -> Iterator[list[Any]]:
    """Put `state` (of random, numpy.random and torch) in place, and what was there back afterwards.

    Yields a list that then holds the new state.
    """
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    result: list[Any] = []
    try:
        if state is not None:
            _set_generators(state)
        yield result
        after = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
        result.append(after)
    finally:
        _set_generators(before)


def _set_generators(state: tuple[Any, Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


def _jsonable(state: tuple[Any, ...]) -> list[Any]:
    return [state[0], list(state[1]), state[2]]
