"""Players for every game of ttc_env, by name.

    config = make_config("market", "gsm8k", prices="fixed")
    players = make_agents(
        config, "provider_0=ucb,rest=best_response", seeds=range(8), horizon=1000
    )
    arena = Arena(config, players, seeds=range(8))
    arena.step()

Agents that need torch are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from agents.arena import Arena, make_role
from agents.base import Agent, Feedback, Payoffs, Role
from agents.policies import Policies, Policy, load_policies, load_policy
from ttc_env.envs.config import EnvConfig

if TYPE_CHECKING:
    from agents.as_opponents import AgentOpponents

AGENTS: dict[str, str] = {
    "random": "agents.fixed:Random",
    "constant": "agents.fixed:Constant",
    "truthful": "agents.fixed:Truthful",
    "shaded": "agents.fixed:Shaded",
    "planner": "agents.fixed:Planner",
    "equilibrium": "agents.fixed:Equilibrium",
    "best_response": "agents.dynamics:BestResponse",
    "nearest_improving": "agents.dynamics:NearestImproving",
    "logit_response": "agents.dynamics:LogitResponse",
    "fictitious_play": "agents.dynamics:FictitiousPlay",
    "replicator": "agents.no_regret:Replicator",
    "double_oracle": "agents.double_oracle:DoubleOracle",
    "hedge": "agents.no_regret:Hedge",
    "optimistic_hedge": "agents.no_regret:OptimisticHedge",
    "regret_matching": "agents.no_regret:RegretMatching",
    "regret_matching_plus": "agents.no_regret:RegretMatchingPlus",
    "exp3": "agents.bandits:EXP3",
    "ucb": "agents.bandits:UCB",
    "thompson": "agents.bandits:Thompson",
    "epsilon_greedy": "agents.bandits:EpsilonGreedy",
    "q_learning": "agents.q_learning:QLearning",
    "ppo": "agents.sb3:PPOAgent",
    "a2c": "agents.sb3:A2CAgent",
    "dqn": "agents.sb3:DQNAgent",
    "ppo_torch": "agents.ppo_torch:TorchPPO",
    "mappo": "agents.mappo:MAPPO",
}
"""Every agent: name -> where its class is."""

NEED_TORCH = frozenset({"ppo", "a2c", "dqn", "ppo_torch", "mappo"})
NEED_SB3 = frozenset({"ppo", "a2c", "dqn"})

__all__ = [
    "AGENTS",
    "Agent",
    "Arena",
    "Feedback",
    "Payoffs",
    "Policies",
    "Policy",
    "Role",
    "agent_class",
    "load_policies",
    "load_policy",
    "make_agents",
    "make_role",
    "opponents",
    "parse_learners",
    "read_learner",
    "read_value",
]


def agent_class(name: str) -> type[Agent]:
    """The class of an agent.

    Raises:
        ValueError: no agent of that name; the message lists those that exist.
        ImportError: it needs torch or Stable-Baselines3, and that is not installed.
    """
    if name not in AGENTS:
        raise ValueError(f"learner {name!r} is unknown; choose {', '.join(AGENTS)}")
    module, attribute = AGENTS[name].split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name in NEED_TORCH and error.name in ("torch", "stable_baselines3"):
            raise ImportError(
                f"learner {name!r} needs {error.name}: pip install 'ttc-env[train]'"
            ) from error
        raise


def parse_learners(text: str, num_providers: int) -> dict[int, tuple[str, dict[str, Any]]]:
    """`"ppo"`, or `"provider_0=ppo,rest=constant:level=16"`, as provider index -> (agent name,
    options).

    Raises:
        ValueError: an unknown learner or provider, a provider without a learner or with two, or
            text that cannot be read.
    """
    providers = [f"provider_{i}" for i in range(num_providers)]
    chosen: dict[int, tuple[str, dict[str, Any]]] = {}
    rest: tuple[str, dict[str, Any]] | None = None
    told: dict[str, str] = {}  # provider, or "rest" -> what the text says of it
    for part in filter(None, (part.strip() for part in text.split(","))):
        head = part.split(":")[0]
        who, what = part.split("=", 1) if "=" in head else ("rest", part)
        name, options = read_learner(what)
        if name not in AGENTS:
            raise ValueError(f"learner {name!r} is unknown; choose {', '.join(AGENTS)}")
        if who in told:
            remedy = (
                f"write who plays which, as {providers[0]}={told[who]},rest={what}"
                if who == "rest"
                else "write one of them"
            )
            raise ValueError(f"{who} has two learners, {told[who]!r} and {what!r}; {remedy}")
        told[who] = what
        if who == "rest":
            rest = (name, options)
        elif who in providers:
            chosen[providers.index(who)] = (name, options)
        else:
            raise ValueError(
                f"provider {who!r} is unknown; this market has {', '.join(providers)}, and 'rest'"
                " for all others"
            )
    for i in range(num_providers):
        if i not in chosen:
            if rest is None:
                raise ValueError(f"{providers[i]} has no learner; add it, or rest=..., to {text!r}")
            chosen[i] = rest
    return chosen


def read_learner(text: str) -> tuple[str, dict[str, Any]]:
    """`"ucb:memory=500:width=0.1"` as a name and options.

    Raises:
        ValueError: an option without a value, or given twice.
    """
    name, *settings = text.split(":")
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(
                f"cannot read {setting!r} in {text!r}; options are written {name}:key=value"
            )
        if key in options:
            raise ValueError(f"{text!r} gives {key} twice; write it once")
        options[key] = read_value(value)
    return name, options


def read_value(text: str) -> Any:
    """An option's value from the command line: true, false, a number, or text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def make_agents(
    config: EnvConfig,
    learners: str | Mapping[int, tuple[str, Mapping[str, Any]]],
    *,
    seeds: Sequence[int],
    horizon: int,
) -> list[Agent]:
    """Agents for every provider; providers with the same learner and options share one agent
    object, not what it learns.

    Args:
        learners: as `parse_learners` reads or returns it.
        seeds: one for each copy of the market that is played.
        horizon: planned number of rounds.

    Raises:
        ValueError, TypeError: as `parse_learners`; or an option that the agent does not take.
    """
    chosen = (
        parse_learners(learners, config.market.num_providers)
        if isinstance(learners, str)
        else dict(learners)
    )
    groups: dict[str, tuple[str, dict[str, Any], list[int]]] = {}
    for i, (name, options) in sorted(chosen.items()):
        groups.setdefault(f"{name} {sorted(options.items())}", (name, dict(options), []))[2].append(
            i
        )
    agents = []
    for name, options, index in groups.values():
        agent_type = agent_class(name)
        role = make_role(config, index, seeds, horizon, sees_solver=agent_type.sees_solver)
        check_options(name, agent_type.options(), options)
        try:
            agents.append(agent_type(role, **options))
        except (AssertionError, ArithmeticError, RuntimeError) as error:
            if not options:
                raise
            raise ValueError(f"learner {name!r} cannot be made with {options}: {error}") from error
    return agents


def opponents(learners: str) -> AgentOpponents:
    """Agents as the opponents of `ttc_env/Provider-v0`: `gymnasium.make("ttc_env/Provider-v0",
    opponent=agents.opponents("provider_1=hedge,rest=ucb"))`.

    Args:
        learners: as `parse_learners` reads them; a wrong name is refused when the environment is
            made.
    """
    from agents.as_opponents import AgentOpponents

    return AgentOpponents(learners)


def check_options(name: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Hold a learner's options against those that it has.

    Args:
        known: option -> its type.

    Raises:
        TypeError: an option that does not exist, or a value of another type.
    """
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(
            f"learner {name!r} has no option {', '.join(unknown)}; it has"
            f" {', '.join(known) or 'none'}"
        )
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    for option, value in options.items():
        types = get_args(known[option]) or (known[option],)
        simple = [one for one in types if one in words]
        strange = [one for one in types if one not in words and one is not type(None)]
        fits = (
            (value is None and type(None) in types)
            or any(one in (object, Any) for one in types)
            or type(value) in simple
            or (type(value) is int and float in simple)
            or (bool(strange) and not isinstance(value, (str, bool, int, float)))
        )
        if not fits:
            expected = " or ".join(words[one] for one in simple) or "an object"
            raise TypeError(f"learner {name!r}: {option} is {value!r}; it must be {expected}")
