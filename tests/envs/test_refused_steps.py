"""After a refused step or reset an environment is, bit for bit, what it was.

Two environments go through the same episodes side by side, and only one of them is also given what
must be refused; and now and then it is replaced by a copy of itself. In between everything that
can be read of it is compared with what it was before, and every later round with that of the other:
the random draws, too, must not have moved.
"""

from __future__ import annotations

import copy
import pickle
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import ttc_env
from tests.variants import UNEVEN

FACES = (
    "parallel",
    "aec",
    "provider",
    "numpy",
    *(name for name in ("numba", "torch") if find_spec(name)),
)
RULES: dict[str, dict[str, Any]] = {
    "market": {"prices": (0.8, 1.0, 4.0)},
    "list prices": {"prices": "fixed"},
    "auction": {
        "mechanism": "auction",
        "misreport": {"over_claim": (0.8, 1.5)},
        "prices": (-0.5, 0.0, 1.0),
    },
    "lies": {"misreport": ("over_report", "under_serve"), "audit_rate": 0.5, "fine": 0.01},
    "tastes": {"mechanism": "taste_auction", "prices": (0.0, 1.0)},
    "own score": {"mechanism": "first_score", "prices": (-0.5, 0.0, 1.0), "reserve": 0.1},
    "types": {
        "types": "weight=0.6 beta=3; weight=0.4 beta=40",
        "misreport": ("over_report", "under_serve"),
        "fine": 0.01,
        "prices": (1.0, 4.0),
    },
}
COST, DEMAND = ttc_env.AR1(0.8, 0.3, shared=False), ttc_env.AR1(0.5, 0.6)
WORLDS: dict[str, dict[str, Any]] = {
    "at rest": {},
    "costs, demand": {"shocks": ttc_env.Shocks(cost=COST, demand=DEMAND)},
    "presence": {"shocks": ttc_env.Shocks(entry=0.5, exit=0.5)},
    "ruin": {"shocks": ttc_env.Shocks(cost=ttc_env.AR1(1.0, 1.0), capital=0.2, entry=0.5)},
    "held prices": {"price_period": 2},
    "all": {"shocks": ttc_env.Shocks(COST, DEMAND, entry=0.5, exit=0.5), "price_period": 2},
}
CYCLES = 3

# What is no action of one agent: by its type, its bytes, its shape or its size.
NO_ACTIONS: list[Any] = [
    None,
    True,
    "0",
    b"\x00" * 16,
    {},
    1j,
    [0, 0, 0, 0, 0],
    [[0, 0], [0]],
    np.datetime64("2026-01-01"),
    np.array([], int),
    np.array(["0", "0"]),
    np.array([0, None]),
    np.array([True, False]),
    np.array([0j, 0j]),
    np.array([1, 0, 2, 0], np.int32),  # the bytes of the int64s 1 and 2
]
NO_INTEGERS: list[Any] = [
    -1,
    10**6,
    2**70,
    1.0,
    0.5,
    np.float64(0.0),
    np.array([-1, 0]),
    np.array([10**6, 0]),
    np.array([1.0, 0.0]),
    np.array([5e-324, 0.0]),  # the bytes of the integers 1 and 0
    np.array([2**63], np.uint64),
]
NO_NUMBERS: list[Any] = [np.nan, np.array([np.nan, 0.0]), np.array([0.0, np.nan], np.float32)]
NO_SEEDS: list[Any] = [1.5, "0", True, -1, np.float64(0), (), [0.5], {}, 1j, np.nan]


def entry(value: Any) -> Any:
    """A batch of actions with one wrong entry."""

    def changed(drawn: np.ndarray) -> np.ndarray:
        wrong = drawn.copy()
        wrong.reshape(-1)[1] = value
        return wrong

    return changed


# What is no batch of actions.
NO_BATCH: dict[str, Any] = {
    "None": lambda drawn: None,
    "a dict": lambda drawn: {"provider_0": 0},
    "too few agents": lambda drawn: drawn[:, :2],
    "too many agents": lambda drawn: np.concatenate([drawn, drawn], axis=1),
    "too few environments": lambda drawn: drawn[:1],
    "bool": lambda drawn: drawn.astype(bool),
    "complex": lambda drawn: drawn.astype(complex),
    "text": lambda drawn: drawn.astype(str),
    "objects": lambda drawn: drawn.astype(object),
    "rows of different lengths": lambda drawn: [[0], [0, 0]],
}
NO_INTEGER_BATCH: dict[str, Any] = {
    "floats": lambda drawn: drawn.astype(float),
    "-1": entry(-1),
    "a million": entry(10**6),
    "uint64": lambda drawn: entry(2**64 - 1)(drawn.astype(np.uint64)),
}
NO_NUMBER_BATCH: dict[str, Any] = {
    "NaN": entry(np.nan),
    "NaN in float32": lambda drawn: entry(np.nan)(drawn.astype(np.float32)),
}


def copied(value: Any) -> Any:
    """Everything in `value` that can be compared, as bytes: NaN equals itself, 0.0 is not -0.0."""
    if hasattr(value, "full"):  # observations of a batch
        value = value.full()
    if type(value).__module__.startswith("torch"):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value).hex()
    return value


class Face:
    """One way to play, behind the few calls that the test makes."""

    def __init__(self, face: str, options: dict[str, Any]):
        self.face = face
        if face == "parallel":
            self.env: Any = ttc_env.parallel_env(**options)
        elif face == "aec":
            self.env = ttc_env.env(**options)
        elif face == "provider":
            self.env = ttc_env.ProviderEnv(provider=1, **options)
        else:
            self.env = ttc_env.vector_env(2, backend=face, **options)
        self.batch = face in ("numpy", "numba", "torch")
        self.n = 3

    @property
    def market(self) -> Any:
        """The environment of all providers, where there is one."""
        return self.env._env if self.face == "provider" else getattr(self.env, "unwrapped", None)

    def become_a_copy(self, how: str) -> None:
        """Go on as a copy of what it was."""
        self.env = (
            pickle.loads(pickle.dumps(self.env)) if how == "pickle" else copy.deepcopy(self.env)
        )

    def reset(self, seed: Any) -> Any:
        found = self.env.reset(seed=seed)
        return copied(found) if self.face != "aec" else self.seen()

    def action(self, rng: np.random.Generator) -> Any:
        """Everybody's actions, in their spaces."""
        config = self.env.unwrapped.config if not self.batch else self.env.config
        shape = (2, 3) if self.batch else (3,)
        if config.continuous:
            drawn = rng.uniform(-1.2, 1.2, (*shape, len(config.grid)))
        else:
            drawn = np.stack([rng.integers(size, size=shape) for size in config.grid], axis=-1)
        if len(config.grid) == 1 and not config.continuous:
            drawn = drawn[..., 0]
        return drawn

    def step(self, drawn: Any) -> Any:
        """A round; everything it returns."""
        if self.batch:
            if self.face == "torch":
                import torch

                drawn = torch.as_tensor(drawn)
            return copied(self.env.step(drawn))
        if self.face == "provider":
            return copied(self.env.step(drawn[1]))
        if self.face == "parallel":
            return copied(self.env.step(self.named(drawn)))
        found = []
        for _ in range(self.n):
            self.env.step(drawn[self.place()])
            found.append(self.seen())
        return found

    def place(self) -> int:
        """Whose turn it is."""
        return self.env.possible_agents.index(self.env.agent_selection)

    def named(self, drawn: Any) -> dict[str, Any]:
        return dict(zip(self.env.possible_agents, drawn, strict=True))

    def refuse(self, bad: Any, place: int) -> None:
        """A step in which one agent's action is `bad`."""
        if self.face == "parallel":
            actions = self.named(self.action(np.random.default_rng(place)))
            actions[f"provider_{place}"] = bad
            self.env.step(actions)
        else:
            self.env.step(bad)

    def refuse_batch(self, bad: Any) -> None:
        """A step of many environments with all of `bad`."""
        wrong = bad(self.action(np.random.default_rng(0)))
        if self.face == "torch" and isinstance(wrong, np.ndarray) and wrong.dtype.kind not in "UO":
            import torch

            wrong = torch.as_tensor(wrong)
        self.env.step(wrong)

    def seen(self) -> Any:
        """All that a user can read of it."""
        env = self.env
        if self.batch:
            told = env._last is not None and env.config.infos == "full"
            last = env.round_infos() if told else None
            return copied([env.state_dict(), last])
        found = [copied(self.market.state()), list(self.market.agents)]
        if self.face == "aec":
            found += [env.agent_selection, list(env.agents)]
            found += [copied([env.rewards, env.terminations, env.truncations, env.infos])]
            found += [copied(env._cumulative_rewards), copied(env.last())]
        if self.market.render_mode == "ansi":
            found.append(self.market.render())
        return found

    def inside(self) -> bytes:
        """All that there is to it, but for torch's generator, which `seen` has."""
        if self.face == "torch":
            return b""
        # once more, since what is worked out on first use is not kept by pickle
        return pickle.dumps(pickle.loads(pickle.dumps(self.env)))


class RefusedSteps(RuleBasedStateMachine):
    """Two environments with the same seed; one is asked for what cannot be."""

    @initialize(
        face=st.sampled_from(FACES),
        game=st.sampled_from(sorted(RULES)),
        world=st.sampled_from(sorted(WORLDS)),
        actions=st.sampled_from(("discrete", "flat", "continuous")),
        demand=st.sampled_from(("expected", "sampled")),
        information=st.sampled_from(("full", "prices", "own")),
        infos=st.sampled_from(("full", "basic")),
        render=st.sampled_from((None, "ansi")),
        many=st.booleans(),
        seed=st.integers(0, 2**31),
    )
    def start(
        self,
        face: str,
        game: str,
        world: str,
        actions: str,
        demand: str,
        information: str,
        infos: str,
        render: str | None,
        many: bool,
        seed: int,
    ) -> None:
        if face == "numba":  # it plays few of them
            game = "market" if game in ("tastes", "own score", "types") else game
            world = "held prices" if "price_period" in WORLDS[world] else "at rest"
        options = {
            **RULES[game],
            **WORLDS[world],
            "market": [UNEVEN, UNEVEN.replace(beta=2.0)] if many else UNEVEN,
            "actions": actions,
            "demand": demand,
            "information": information,
            "infos": infos,
            "max_cycles": CYCLES,
        }
        if face == "numba":
            options["actions"] = "flat" if actions == "flat" else "discrete"
            options["demand"] = "expected"
        if game in ("tastes", "lies", "types", "own score") and options["actions"] == "continuous":
            options["infos"] = "basic"
        if game == "types" and face in ("numpy", "torch"):
            options["infos"] = "basic"  # a batch has no time to search for optima
        if game == "list prices":
            options.pop("price_period", None)  # there is one price
        if face in ("parallel", "aec", "provider"):
            options["render_mode"] = render
        if face == "provider":
            options["opponent"] = (
                "truthful"
                if options["actions"] == "continuous"
                else ("best_response" if many else "equilibrium")
            )
            if game in ("auction", "own score") and options["opponent"] == "equilibrium":
                options["opponent"] = "truthful"
            if game == "types" and options["opponent"] == "equilibrium":  # there may be none
                options["opponent"] = "best_response"
        self.made = options
        self.plain, self.tried = Face(face, options), Face(face, options)
        self.rng = np.random.default_rng(seed)
        self.continuous = options["actions"] == "continuous"
        self.rounds = 0
        assert self.plain.reset(seed) == self.tried.reset(seed)

    def same(self, what: Any) -> None:
        """That `what` raises, and leaves everything as it was."""
        seen, inside = self.tried.seen(), self.tried.inside()
        with pytest.raises((ValueError, TypeError)) as raised:
            what()
        words = str(raised.value)
        # our own words, not what Python or NumPy made of it further down
        known = ("action", "seed", "step needs", "step got", "tensors", "done")
        assert any(word in words for word in known), words
        assert self.tried.seen() == seen, words
        assert self.tried.inside() == inside, words

    @rule(bad=st.sampled_from(range(len(NO_ACTIONS) + len(NO_INTEGERS))), place=st.integers(0, 2))
    def refused_action(self, bad: int, place: int) -> None:
        if self.tried.batch:
            return
        wrong = NO_ACTIONS + (NO_NUMBERS if self.continuous else NO_INTEGERS)
        self.same(lambda: self.tried.refuse(wrong[bad % len(wrong)], place))

    @rule(bad=st.sampled_from(range(len(NO_BATCH) + len(NO_INTEGER_BATCH))))
    def refused_batch(self, bad: int) -> None:
        if not self.tried.batch:
            return
        wrong = {**NO_BATCH, **(NO_NUMBER_BATCH if self.continuous else NO_INTEGER_BATCH)}
        name = list(wrong)[bad % len(wrong)]
        self.same(lambda: self.tried.refuse_batch(wrong[name]))

    @rule(bad=st.sampled_from(NO_SEEDS))
    def refused_seed(self, bad: Any) -> None:
        self.same(lambda: self.tried.env.reset(seed=bad))

    @rule(odd=st.sampled_from(("missing", "extra", "list", "none", "array")))
    def refused_crowd(self, odd: str) -> None:
        """Actions of too few agents, of too many, or of nobody."""
        if self.tried.face != "parallel":
            return
        drawn = self.tried.action(np.random.default_rng(0))
        actions: Any = self.tried.named(drawn)
        if odd == "missing":
            del actions["provider_1"]
        elif odd == "extra":
            actions["provider_3"] = actions["provider_1"]
        else:
            actions = {"list": list(drawn), "none": None, "array": drawn}[odd]
        self.same(lambda: self.tried.env.step(actions))

    @rule(how=st.sampled_from(("pickle", "copy")))
    def copied(self, how: str) -> None:
        if self.tried.face == "torch" and how == "pickle":
            return
        seen = self.tried.seen()
        self.tried.become_a_copy(how)
        assert self.tried.seen() == seen

    @rule()
    def play(self) -> None:
        drawn = self.plain.action(self.rng)
        assert self.plain.step(drawn) == self.tried.step(drawn)
        self.rounds += 1
        over = self.rounds == CYCLES
        if over and not self.plain.batch:
            if self.tried.face == "aec":
                self.same(lambda: self.tried.env.step(0))
            else:
                with pytest.raises(RuntimeError, match="no episode is running"):
                    self.tried.step(drawn)
            assert self.plain.reset(None) == self.tried.reset(None)
        self.rounds %= CYCLES
        if self.plain.face != "aec":
            assert self.plain.seen() == self.tried.seen()


def machine(examples: int, steps: int) -> type:
    """The test, of some length."""
    case = type("Case", (RefusedSteps.TestCase,), {})
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


TestRefusedSteps = machine(12, 10)
