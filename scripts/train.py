"""Train any learner on any market, and measure it against the exact equilibrium.

    python -m scripts.train --learner ppo --mechanism auction --beta 1000 --seeds 0..9
    python -m scripts.train --learner provider_0=ppo,rest=best_response --prices grid
    python -m scripts.train --learner hedge --market curves.csv --alpha 0.01
    python -m scripts.train --learner hedge --show > run.toml
    python -m scripts.train --config run.toml --beta 200

The folder --out (default results/train/<name>) gets manifest.json, metrics.csv (a row an
evaluation), final.csv (a row a seed), policies/ (what each seed learned: see scripts.enjoy and
agents.load_policy), checkpoints/, and TensorBoard logs of learners that need torch (with
--wandb, of all). The same command again goes on from the last checkpoint, with a larger --steps
beyond the old end. SIGINT (Ctrl-C), SIGTERM and SIGHUP save and end the run. Exit status: 0
finished, 1 stopped by an error, 2 a bad option, 128 + the signal's number if interrupted (130 for
Ctrl-C).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import math
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agents import AGENTS
from agents.arena import NotFinite
from baselines.errors import failed
from baselines.interrupts import Interrupted
from baselines.lock import Locked
from baselines.plan import Plan, TrainConfig
from baselines.records import make_folder
from baselines.training import Run
from ttc_env.settings import add_options, read_options, show


def default_name(config: TrainConfig) -> str:
    """A folder name that tells runs apart."""
    learner = config.learner
    source = Path(config.curve_file).stem if config.curve_file else config.benchmark
    method = config.method or ("own" if config.curve_file else "majority")
    name = f"{learner}_{config.mechanism}-{config.prices}_{source}-{method}"
    if config.beta is not None:
        name += f"_beta{config.beta:g}"
    shown = ("learner", "mechanism", "prices", "market", "benchmark", "method", "beta")
    later = (
        "seeds",
        "steps",
        "evaluations",
        "spacing",
        "threads",
    )  # of a run, not of what is learned
    others = [
        f"{field.name}-{getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name not in (*shown, *later) and getattr(config, field.name) != field.default
    ]
    return "".join(c if c.isalnum() or c in "_.-" else "-" for c in "_".join([name, *others]))


TOO_LARGE = MemoryError(
    "a run of this size does not fit into memory; lower --parallel, --seeds, --evaluations or"
    " --steps, or the sizes among the learner's options"
)


class Bar:
    """A progress bar with the last NashConv; plain lines where tqdm is not installed."""

    def __init__(self, total: int, quiet: bool):
        self._quiet, self._bar = quiet, None
        if not quiet:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="evaluation")

    def __call__(self, row: dict[str, Any]) -> None:
        if self._quiet:
            return
        text = (
            f"seed {row['seed']} step {row['step']} NashConv {row['nash_conv']:.3g} relative regret"
            f" {row['relative_regret']:.2%} welfare {row['welfare_ratio']:.1%} of optimum"
        )
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def tracked(project: str | None, config: TrainConfig, out: Path) -> Iterator[None]:
    """Have Weights & Biases read the TensorBoard logs that are written inside the block; nothing if
    `project` is None. The same folder is the same run there, so that a resumed run goes on.

    Raises:
        ImportError: wandb or tensorboard is not installed.
    """
    if project is None:
        yield
        return
    try:
        import wandb
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "--wandb needs wandb and tensorboard: pip install wandb 'ttc-env[train]'"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    # before the first SummaryWriter, which is what sync_tensorboard listens to
    run = wandb.init(
        project=project,
        name=out.name,
        id=hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16],
        resume="allow",
        config=dataclasses.asdict(config),
        dir=str(out),
        sync_tensorboard=True,
    )
    try:
        yield
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def summary(row: Mapping[str, Any]) -> str:
    """Where a seed ended, in one line."""
    text = (
        f"seed {row['seed']}: NashConv {row['nash_conv']:.3g} USD, relative regret"
        f" {row['relative_regret']:.3%}, welfare {row['welfare_ratio']:.2%} of the optimum"
    )
    levels_off = row.get("levels_off")  # continuous play has none
    if math.isnan(row["welfare_to_equilibrium"] if levels_off is None else levels_off):
        return f"{text}; the game has no pure equilibrium"
    text += f" and {row['welfare_to_equilibrium']:.2%} of the equilibrium's"
    return text if levels_off is None else f"{text}, {levels_off:.2f} levels off"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that trains: what it is called, and what its options come to."""

    name: str
    description: str
    epilog: str = ""
    config: type[TrainConfig] = TrainConfig
    plan: type[Plan] = Plan
    run: type[Run] = Run


def main(arguments: Iterable[str] | None = None) -> int:
    return execute(Command("train", __doc__, f"learners: {', '.join(AGENTS)}"), arguments)


def execute(command: Command, arguments: Iterable[str] | None) -> int:
    """Do as the arguments say. Returns the exit status."""
    try:
        return _execute(command, arguments)
    except KeyboardInterrupt:
        return interrupted()


def interrupted() -> int:
    """Say that Ctrl-C came before a run began, or after it. Returns the exit status."""
    print("interrupted; no training was under way", file=sys.stderr)
    return 130


def _execute(command: Command, arguments: Iterable[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m scripts.{command.name}",
        usage="%(prog)s [--learner NAME] [--config FILE] [--out DIR] [option ...]",
        description=command.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=command.epilog,
    )
    add_options(parser, command.config)
    folder = Path("results") / command.name
    parser.add_argument(
        "--out", type=Path, default=None, help=f"folder to write to (default {folder}/<name>)"
    )
    parser.add_argument(
        "--keep-every",
        type=float,
        default=30.0,
        help="seconds between checkpoints (default 30; 0: after every round)",
    )
    parser.add_argument("--config", type=Path, help="a TOML file of options; others change it")
    parser.add_argument(
        "--show", action="store_true", help="print the options as such a file, and train nothing"
    )
    parser.add_argument(
        "--wandb",
        metavar="PROJECT",
        help="send the TensorBoard logs to this project of Weights & Biases, as they are written"
        " (needs wandb and tensorboard)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if not options.keep_every >= 0:
            raise ValueError(f"keep-every is {options.keep_every:g}; it must be seconds >= 0")
        config = read_options(command.config, options, options.config)
    except (ValueError, OSError) as error:
        return failed(error, 2)
    if options.show:
        print(show(config, parser.prog), end="")
        return 0
    out = options.out if options.out is not None else folder / default_name(config)
    try:
        plan = command.plan.of(config, out)
        plan.arena(plan.batches[0])  # options of learners are checked by making them
        logged = options.wandb is not None
        run = command.run(plan, out, keep_every=options.keep_every, logged=logged)
        evaluations = len(plan.evaluation_rounds()) * len(config.seed_list())
    except (MemoryError, OverflowError):
        return failed(TOO_LARGE, 2)
    except (ValueError, TypeError, ImportError, OSError) as error:
        return failed(error, 2)
    try:
        make_folder(out)
    except OSError as error:
        return failed(error, 1)
    bar = Bar(evaluations, options.quiet)
    run.on_evaluation = bar
    try:
        with tracked(options.wandb, config, out):
            run.train()
    except ImportError as error:
        return failed(error, 2)
    except Interrupted as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved: no second Ctrl-C disturbs
        print(f"interrupted; saved to {out}; the same command goes on from here", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        print(
            f"stopped at once; the same command goes on from the last save in {out}, if there is"
            " one",
            file=sys.stderr,
        )
        return 130
    except (NotFinite, ValueError, Locked, OSError) as error:
        return failed(error, 1)
    finally:
        bar.close()
    for note in run.notes:
        print(f"note: {note}", file=sys.stderr)
    if not options.quiet:
        for row in run.final().to_dict("records"):
            print(summary(row))
        print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
