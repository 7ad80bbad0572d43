"""Solve many games, by many workers: benchmarks x rules x prices x betas, into one table.

    ttc-env sweep --benchmarks gsm8k/majority,aime/best_of_n --betas 200,1000
    ttc-env sweep --example > sweep.toml
    ttc-env sweep sweep.toml --workers 4         # processes of this machine
    ttc-env sweep sweep.toml --shard 3/8         # one of 8 workers that any scheduler starts
    ttc-env sweep sweep.toml --submitit 8 --submitit-options '{"timeout_min": 60}'    # Slurm
    ttc-env sweep sweep.toml --ray auto --workers 8    # a Ray cluster; `--ray local` for one here

Every game is a file in cells/, so that the same command goes on after a stop, and a larger sweep
computes what is new. Workers may come and go: a killed one loses the game it was at, which another
takes. Whoever finishes last writes table.parquet (table.csv without pyarrow). In a checkout,
`python -m scripts.sweep` does the same with learners and seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ttc_env.settings as settings
from ttc_env.cli._workers import add_worker_options, run_cells

EXAMPLE = """\
# ttc-env sweep sweep.toml: every entry of every list with every other one.
benchmarks = ["gsm8k/majority", "aime/best_of_n", "gpqa/reasoning"]  # benchmark/method, or a CSV
mechanisms = ["market", "auction"]                                   # any registered rule
prices = ["fixed"]                       # fixed (list prices, truthful bids), or grid
betas = [200.0, 1000.0, 100000.0]        # 1/USD
out = "results/sweep"
# alpha = 0.01                           # USD value of a right answer: a curve file needs it
# providers = ["Qwen2-7B", "Qwen2.5-7B"] # names to keep
"""

LONGEST_NAME = 200
"""Of a cell, without its hash: file systems end names at 255 bytes."""


@dataclass(frozen=True)
class SweepConfig:
    """Which games are solved; see `EXAMPLE`."""

    benchmarks: list[str] = settings.listed("benchmark/method, or curve files", "gsm8k/majority")
    mechanisms: list[str] = settings.listed("registered rules", "market")
    prices: list[str] = settings.listed("fixed, grid", "fixed")
    betas: list[float] = settings.listed("rationality of users, 1/USD", 1000.0)
    alpha: float | None = settings.described(None, "USD value of a right answer")
    providers: list[str] | None = settings.described(None, "names to keep")
    out: str = settings.described("results/sweep", "folder for cells/ and the table")

    def __post_init__(self) -> None:
        for name in ("benchmarks", "mechanisms", "prices", "betas"):
            values = list(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}; give at least one entry, each once")
        if wrong := [beta for beta in self.betas if not 0 <= beta < math.inf]:
            raise ValueError(f"betas has {wrong[0]}; give finite numbers >= 0, 1/USD")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}; it must be a positive number of USD")
        if self.providers is not None and not self.providers:
            raise ValueError("providers is []; name at least one, or leave it out")

    def games(self) -> list[Game]:
        """All games, in the order of the lists.

        Raises:
            ValueError: an unknown mechanism.
            OSError: a curve file that cannot be read.
        """
        from ttc_env.game.mechanisms import make_mechanism

        for mechanism in self.mechanisms:
            for prices in self.prices:
                make_mechanism(mechanism, prices)
        return [
            Game(benchmark, mechanism, prices, beta, self.alpha, self.providers, source(benchmark))
            for benchmark in self.benchmarks
            for mechanism in self.mechanisms
            for prices in self.prices
            for beta in self.betas
        ]


@dataclass(frozen=True)
class Game:
    """One game to be solved: a cell of a sweep (`ttc_env.cells`)."""

    benchmark: str  # benchmark/method, or a path
    mechanism: str
    prices: str
    beta: float
    alpha: float | None = None
    providers: list[str] | None = None
    source: str = ""  # what else decides its numbers: version, and the curve file's hash

    @property
    def name(self) -> str:
        where = Path(self.benchmark).stem if self.source.count(" ") else self.benchmark
        return cell_name(self, where, self.mechanism, self.prices, f"{self.beta:g}")

    @property
    def environment(self) -> dict[str, Any]:
        """Arguments of `ttc_env.parallel_env`."""
        return {
            "mechanism": self.mechanism,
            **place(self.benchmark),
            "prices": self.prices,
            "beta": self.beta,
            "alpha": self.alpha,
            "providers": self.providers,
        }

    @property
    def key(self) -> dict[str, Any]:
        """The columns that name it."""
        given = self.environment
        names = ("benchmark", "method", "mechanism", "prices", "beta")
        return {name: given[name] for name in names}

    def run(self) -> list[dict[str, Any]]:
        """Its exact solution (`ttc_env.sweep`); profiles are flat actions with spaces between."""
        import ttc_env

        given = self.environment
        mechanism = ttc_env.make_mechanism(given.pop("mechanism"), given.pop("prices"))
        found = ttc_env.sweep(ttc_env.load_market(**given), mechanism=mechanism)
        numbers = {
            name: getattr(found, name)[0, 0].item()
            for name in (
                "welfare",
                "best_welfare",
                "optimal_welfare",
                "price_of_anarchy",
                "price_of_stability",
                "unique",
                "complete",
                "converged",
            )
        }
        profiles = {
            name: " ".join(map(str, getattr(found, name)[0, 0]))
            for name in ("lowest", "highest", "optimum")
        }
        return [{**self.key, **numbers, **profiles}]


def is_file(benchmark: str) -> bool:
    """Whether a benchmark is a curve file."""
    return benchmark.lower().endswith(".csv")


def place(benchmark: str) -> dict[str, str | None]:
    """Arguments of `ttc_env.load_market` for `benchmark/method`, or for a curve file."""
    if is_file(benchmark):
        return {"benchmark": benchmark, "method": None}
    name, _, method = benchmark.partition("/")
    return {"benchmark": name, "method": method or None}


def source(benchmark: str) -> str:
    """What else than its options decides a game's numbers: this version, and a file's content."""
    import ttc_env

    if not is_file(benchmark):
        return ttc_env.__version__
    content = Path(benchmark).read_bytes()
    return f"{ttc_env.__version__} {hashlib.sha256(content).hexdigest()}"


def cell_name(cell: Any, *words: str) -> str:
    """A file name: words to read, and a hash of everything, so that no two cells share a file."""
    facts = json.dumps(asdict(cell), sort_keys=True)
    text = "_".join("".join(c if c.isalnum() or c in ".-" else "-" for c in w) for w in words)
    return f"{text[:LONGEST_NAME]}_{hashlib.sha256(facts.encode()).hexdigest()[:10]}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep_options(parser, SweepConfig)


def add_sweep_options(parser: argparse.ArgumentParser, kind: type[SweepConfig]) -> None:
    """Options of a sweep of any kind."""
    parser.add_argument("config", type=Path, nargs="?", help="a TOML file; see --example")
    settings.add_options(parser.add_argument_group("what, on top of the file"), kind)
    parser.add_argument(
        "--show", action="store_true", help="print the options as such a file, and run nothing"
    )
    parser.add_argument("--example", action="store_true", help="print a file that explains itself")
    add_worker_options(parser)


def run(args: argparse.Namespace) -> None:
    if args.example:
        print(EXAMPLE, end="")
        return
    try:
        config = settings.read_options(SweepConfig, args, args.config)
    except ValueError as error:
        if "'learners'" in str(error) or "'seeds'" in str(error):
            raise ValueError(
                f"{error}. Learners are not part of the package: in a checkout, run"
                f" python -m scripts.sweep {args.config}"
            ) from None
        raise
    if args.show:
        print(settings.show(config, "ttc-env sweep"), end="")
        return
    run_cells(config.games(), Path(config.out), args)
