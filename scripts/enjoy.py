"""Watch what a run has learned, or learners while they learn: print every round, or record it.

    python -m scripts.enjoy results/train/<name>                        # every round as text
    python -m scripts.enjoy results/train/<name> --gif episode.gif      # an animation (extra plot)
    python -m scripts.enjoy results/train/<name> --video videos         # an MP4 (extra video)
    python -m scripts.enjoy --learner hedge --beta 200                  # as it learns

Exit status: 0; 1 if there is no run, or an extra is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ttc_env
from agents import Arena, Policies, load_policies, make_agents
from agents.base import Actions
from baselines.errors import failed
from baselines.plan import TrainConfig
from ttc_env.atomic import write_atomically

GAME = ("mechanism", "benchmark", "method", "prices", "beta")
"""Options of the game in which learners are watched; a run has its own."""


def played(policies: Policies, rounds: int, seed: int, render_mode: str) -> Iterator[Any]:
    """Play one episode, and yield what is rendered after every round.

    Args:
        rounds: the episode's length.
        seed: of the environment (its users, where demand is sampled).
        render_mode: as `ttc_env.parallel_env` takes it.
    """
    options = {**policies.options, "infos": "full", "max_cycles": rounds}
    env = ttc_env.parallel_env(render_mode=render_mode, **options)
    seen, _ = env.reset(seed=seed)
    while env.agents:
        seen, *_ = env.step({agent: policies[agent](seen[agent]) for agent in env.agents})
        yield env.render()
    env.close()


class _Watched(Arena):
    """An arena that remembers what was played last."""

    played: Actions

    def play(self, actions: Actions) -> Any:
        self.played = actions
        return super().play(actions)


def learning(config: TrainConfig, rounds: int, seed: int, render_mode: str) -> Iterator[Any]:
    """Learners' first episode, in which they learn: yields what is rendered after every round.

    Args:
        config: who learns in which game.
        rounds: the episode's length, over which schedules (exploration) run.
        seed: of learners and environment.
        render_mode: as `ttc_env.parallel_env` takes it.
    """
    options = {**config.environment_options(), "infos": "basic", "max_cycles": rounds}
    env = ttc_env.parallel_env(render_mode=render_mode, **options)
    env.reset(seed=seed)
    agents = make_agents(env.config, config.learner, seeds=[seed], horizon=rounds)
    arena = _Watched(env.config, agents, [seed])
    while env.agents:
        arena.step()
        chosen = arena.played[:, 0].tolist()
        env.step({a: env.config.action_of(i, chosen[i]) for i, a in enumerate(env.agents)})
        yield env.render()
    env.close()


def record_gif(frames: Iterable[np.ndarray], path: Path, per_second: float) -> None:
    """Write `[height, width, 3]` frames as an animation that repeats, after two seconds' rest.

    Raises:
        ImportError: Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("--gif needs Pillow: pip install 'ttc-env[plot]'") from error
    images = [Image.fromarray(frame) for frame in frames]
    # One palette for all, white among it: what does not change is then stored once.
    colours = images[-1].quantize(64, method=Image.Quantize.MAXCOVERAGE)
    images = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
    each = 1000.0 / per_second
    write_atomically(
        path,
        lambda temporary: images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=[*[each] * (len(images) - 1), each + 2000.0],
            loop=0,
        ),
    )


def record_video(policies: Policies, rounds: int, seed: int, folder: Path, provider: int) -> Any:
    """Record an episode with Gymnasium's RecordVideo, as one provider's environment.

    Raises:
        ImportError: moviepy is missing.
    """
    import gymnasium

    options = {**policies.options, "infos": "full", "max_cycles": rounds}
    env = gymnasium.make(
        "ttc_env/Provider-v0",
        opponent=policies,
        provider=provider,
        render_mode="rgb_array",
        **options,
    )
    try:
        env = gymnasium.wrappers.RecordVideo(env, str(folder), name_prefix="episode")
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError("--video needs moviepy: pip install 'ttc-env[plot,video]'") from error
    seen, _ = env.reset(seed=seed)
    over = False
    while not over:
        seen, _, _, over, _ = env.step(policies(seen))
    env.close()
    return folder


def show(episode: Callable[[str], Iterator[Any]], options: argparse.Namespace) -> None:
    """Record an episode, given its render mode, or print it."""
    if options.gif is None:
        for text in episode("ansi"):
            print(f"\n{text}")
    else:
        record_gif(episode("rgb_array"), options.gif, options.fps)
        print(f"written to {options.gif}")


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.enjoy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, nargs="?", help="folder of a run")
    parser.add_argument("--learner", help="in place of a run: learners that start to learn")
    for name in GAME:
        field = TrainConfig.__dataclass_fields__[name]
        parser.add_argument(
            f"--{name}",
            type=float if name == "beta" else str,
            help=f"with --learner: {field.metadata['help']}",
        )
    parser.add_argument(
        "--seed", type=int, default=None, help="whose policies (default: the first)"
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds to play (default 10)")
    parser.add_argument(
        "--env-seed", type=int, default=0, help="the environment's seed (default 0)"
    )
    parser.add_argument("--gif", type=Path, default=None, help="write an animation to this file")
    parser.add_argument("--video", type=Path, default=None, help="write an MP4 into this folder")
    parser.add_argument("--fps", type=float, default=2.0, help="rounds per second (default 2)")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.rounds < 1 or options.fps <= 0:
        parser.error("--rounds must be at least 1, and --fps positive")
    if (options.run is None) == (options.learner is None):
        parser.error("give the folder of a run, or --learner")
    game = {name: value for name in GAME if (value := getattr(options, name)) is not None}
    if options.run is not None and game:
        parser.error(f"a run has its own game; leave out --{', --'.join(game)}")
    if options.learner is not None and options.video is not None:
        parser.error("--video plays a run; with --learner use --gif")
    try:
        if options.learner is not None:
            config = TrainConfig(learner=options.learner, **game)
            show(partial(learning, config, options.rounds, options.seed or 0), options)
            return 0
        policies = load_policies(options.run, seed=options.seed, draws=options.env_seed)
        learners = ", ".join(f"{agent}: {policies[agent].learner}" for agent in policies)
        print(f"seed {policies.seed} after {policies.step} steps; {learners}")
        if options.video is not None:
            record_video(policies, options.rounds, options.env_seed, options.video, 0)
            print(f"written to {options.video}")
        if options.gif is not None or options.video is None:
            show(partial(played, policies, options.rounds, options.env_seed), options)
    except (ValueError, TypeError, ImportError, OSError) as error:
        return failed(error, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
