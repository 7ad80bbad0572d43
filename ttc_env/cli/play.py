"""Play an episode and watch it: who offers what, who is chosen, who earns.

    ttc-env play gsm8k --rounds 5 --policy random
    ttc-env play gsm8k --mechanism auction --policy truthful
    ttc-env play aime --policy equilibrium --rounds 1

Policies: `random` (uniform over the actions that exist), `equilibrium` (the worst equilibrium,
or the auction's dominant strategies), `nearest` (the same, or the profile of least regret where
there is no equilibrium), `truthful` (list price or cost, at the level of largest surplus).
"""

from __future__ import annotations

import argparse
from typing import Any

from ttc_env.cli._market import add_market_options, check_mechanism, mechanism_options, read_market

POLICIES = ("random", "equilibrium", "nearest", "truthful")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser)
    parser.add_argument("--policy", choices=POLICIES, default="random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="the last round and the totals alone")


def run(args: argparse.Namespace) -> None:
    import ttc_env

    if args.rounds < 1:
        raise ValueError(f"--rounds is {args.rounds}; it must be at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be at least 0")
    env = ttc_env.parallel_env(
        market=read_market(args),
        mechanism=check_mechanism(args.mechanism),
        prices="fixed",
        **mechanism_options(args),
        max_cycles=args.rounds,
        render_mode="ansi",
    )
    choose = _policy(env, args)
    _, infos = env.reset(seed=args.seed)
    earned = dict.fromkeys(env.possible_agents, 0.0)
    shown: Any = None
    while env.agents:
        actions = choose(infos)
        _, rewards, _, _, infos = env.step(actions)
        for agent, reward in rewards.items():
            earned[agent] += float(reward)
        shown = env.render()
        if not args.quiet:
            print(shown, end="\n\n")
    if args.quiet:
        print(shown, end="\n\n")
    names = env.unwrapped.market.names
    best = sorted(zip(earned.values(), names, strict=True), reverse=True)
    print(f"earned in {args.rounds} rounds, USD:")
    for money, name in best:
        print(f"  {name:<24} {money:12.6g}")


def _policy(env: Any, args: argparse.Namespace) -> Any:
    """A function from infos to the actions of all agents (prices being fixed)."""
    import numpy as np

    agents, config = env.possible_agents, env.unwrapped.config
    market, mechanism = config.market, config.mechanism
    if args.policy == "random":
        rng = np.random.default_rng(args.seed)
        exist = [np.flatnonzero(~np.isnan(row)) for row in config.table.quality]
        return lambda infos: {
            agent: config.action_of(i, int(rng.choice(exist[i]))) for i, agent in enumerate(agents)
        }
    if args.policy == "equilibrium":
        solution = env.unwrapped.solve()
        if why := getattr(solution, "no_equilibrium", ""):
            raise ValueError(f"{why}. Choose --policy nearest, the profile of least regret")
        profile = solution.worst if hasattr(solution, "worst") else solution.actions
    elif args.policy == "nearest":
        solution = env.unwrapped.solve()
        nearest = getattr(solution, "least_regret", None)
        profile = solution.actions if nearest is None else nearest.profile
    else:
        surplus = np.where(market.available, market.quality - market.cost, -np.inf)
        profile = mechanism.join(surplus.argmax(axis=1), market=market)
    return lambda infos: {a: config.action_of(i, int(profile[i])) for i, a in enumerate(agents)}
