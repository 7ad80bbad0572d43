"""Build the markets `measured_gsm8k` and `mmlu`: `ttc_env/data/open_models_curves.csv`.

    python -m scripts.build_open_models                       # again, from the traces shipped
    python -m scripts.build_open_models --pack runs/open-gsm8k/traces runs/open-mmlu/traces

Three open models that anybody can run, on questions that anybody can read. `--pack` takes over the
traces of campaigns (scripts/open_models), whole ones or shards, complete or not: it scores their
texts by today's checks, leaves out a model with fewer than `--least` questions of a task, and
writes the entries of `ttc_env/data/SOURCES.md`, whose counts come from the traces. All providers of
a market are compared on the same questions: those that every one of them has answered.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import tempfile
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.build_measured import DATA, MARGIN, TRACES, table_of, to_csv
from scripts.estimate import curves_of
from ttc_env.atomic import write_text
from ttc_env.measure.curve_file import MeasuredCurve
from ttc_env.measure.resampling import bootstrap_means, interval
from ttc_env.measure.rescore import rescore
from ttc_env.measure.samples import from_trace
from ttc_env.measure.traces import Trace, compress_trace, merge_traces, read_trace

#: Parameters of each model without its embedding table: the work of one token, which prices follow.
PARAMETERS = {
    "SmolLM2-135M-Instruct": 106_203_456,
    "Qwen2.5-Coder-0.5B-Instruct": 357_898_112,
    "Qwen2.5-Coder-1.5B-Instruct": 1_310_340_608,
}
#: Task of a trace -> name of the market.
MARKETS = {"gsm8k": "measured_gsm8k", "mmlu": "mmlu"}
METHODS = ("majority", "best_of_n", "pass_at_k")
#: The list price that the paper uses for Qwen2-1.5B, USD/token, and the parameters that it buys.
ANCHOR_PRICE = 0.10e-6
ANCHOR_PARAMETERS = PARAMETERS["Qwen2.5-Coder-1.5B-Instruct"]
LEAST = 100  # questions: a model with fewer is left out of a task's market
CURVES = "open_models_curves.csv"
_SHARD = re.compile(r"\.shard\d+of\d+$")


def price_per_token(parameters: int) -> float:
    """USD/token, *assigned*: nobody lists these three models side by side.

    The largest costs what the paper lists for Qwen2-1.5B (0.10 USD per 1M tokens); the others less
    by the root of their parameters, the rule of the market `measured`.
    """
    return round(ANCHOR_PRICE * 1e6 * math.sqrt(parameters / ANCHOR_PARAMETERS), 4) * 1e-6


def take_over(runs: Sequence[Path], traces: Path, least: int = LEAST) -> list[str]:
    """Put the runs' traces into the folder `traces`, compressed, in place of those that are there;
    one line about each.

    Shards are put together, a line that was being written is left out, and every text is scored by
    today's checks. The runs' own files stay as they are, and may still be written to.

    Raises:
        ValueError: no task has two models with `least` questions; nothing is written then.
    """
    parts: dict[str, list[Path]] = defaultdict(list)
    for path in (p for run in runs for p in sorted(run.glob("*--*--*.jsonl"))):
        if not path.name.endswith(".rewards.jsonl"):
            parts[_SHARD.sub("", path.name.removesuffix(".jsonl"))].append(path)
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        merged: dict[tuple[str, str], list[Path]] = defaultdict(list)  # (task, dial) -> traces
        for name in (stem for model in PARAMETERS for stem in parts if stem.startswith(model)):
            path = Path(folder) / f"{name}.jsonl"
            count = merge_traces(parts[name], path, [])
            _, task, label = name.split("--")
            kept = task in MARKETS and count >= least
            said.append(f"{name}: {count} questions, {'enough' if kept else 'too few: left out'}")
            if kept:
                again = rescore(path, say=said.append)
                said[-1] += f"; today's checks changed {again.to_right + again.to_wrong} verdicts"
                merged[task, label].append(path)
        chosen = [path for group in merged.values() if len(group) > 1 for path in group]
        if not chosen:
            raise ValueError(
                f"no task has two models with {least} questions; measure more, or give a smaller"
                f" --least: {'; '.join(said)}"
            )
        for path in _shipped(traces):
            path.unlink()
        for path in chosen:
            compress_trace(path, traces / f"{path.name}.gz")
    return said


def _shipped(traces: Path) -> list[Path]:
    return [p for name in PARAMETERS for p in sorted(traces.glob(f"{name}--*.jsonl.gz"))]


def on_shared_questions(curves: Sequence[MeasuredCurve]) -> list[MeasuredCurve]:
    """The curves over the questions that all of them have, so that providers compare.

    Raises:
        ValueError: no question is shared.
    """
    everywhere = set.intersection(*(set(curve.ids) for curve in curves))
    if not everywhere:
        raise ValueError("no question was answered by all providers; measure them on one task file")
    shared = [question for question in curves[0].ids if question in everywhere]
    return [curve.select(shared) for curve in curves]


def shared_curves(traces: Path) -> dict[tuple[str, str], list[MeasuredCurve]]:
    """(market, method) -> the curves of its providers, over the questions that all of them have.

    Each provider has the levels 1, 2, 4, ... up to the number of its samples.
    """
    prices = {name: price_per_token(count) for name, count in PARAMETERS.items()}
    options = Namespace(
        reward_model=None, levels=None, methods=METHODS, score="logprob", margin=MARGIN
    )
    curves = curves_of(_shipped(traces), options, prices)
    return {(MARKETS[task], method): on_shared_questions(c) for (task, method), c in curves.items()}


def build(traces: Path) -> pd.DataFrame:
    """The curve table from a folder of traces: benchmark, method, the columns of a curve file."""
    return table_of(shared_curves(traces))


def gain(curve: MeasuredCurve) -> tuple[float, float, float]:
    """Accuracy at the highest level less that at the lowest, with its 95% interval: the same
    questions at both, so the difference is resampled by question.
    """
    difference = curve.accuracy[:, -1] - curve.accuracy[:, 0]
    low, high = interval(bootstrap_means(difference[:, None]))
    return float(difference.mean()), float(low[0]), float(high[0])


def facts(traces: Path) -> list[str]:
    """Every count and figure of the SOURCES.md entry, from the traces."""
    lines = [
        "  | market | provider | trace | questions in it, shared by all | samples a question"
        " | one sample right | cut off | tokens a sample |",
        "  | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    curves = shared_curves(traces)
    read = {path: read_trace(path) for path in _shipped(traces)}
    for path, trace in read.items():
        market = MARKETS[trace.settings["task"]]
        method = "majority" if trace.settings["dial"] == "parallel" else "reasoning"
        shared = curves[market, method][0].ids
        samples = from_trace(trace).select(shared)
        lines.append(
            f"  | `{market}` | {trace.settings['provider']} | {path.name.split('--')[2][:-9]} |"
            f" {len(trace.records)}, {len(shared)} | {samples.num_samples} |"
            f" {100 * samples.correct.mean():.1f}% | {100 * (~samples.finished).mean():.1f}% |"
            f" {samples.tokens.mean():.1f} |"
        )
    lines.append("")
    for (market, method), group in curves.items():
        if method != "majority":
            continue
        for curve in group:
            mean, low, high = gain(curve)
            lines.append(
                f"- `{market}`, {curve.provider}, {len(curve.ids)} questions: majority of"
                f" {curve.levels[-1]} against one sample {100 * mean:+.1f} points (95%"
                f" {100 * low:+.1f} to {100 * high:+.1f})"
            )
    return [*lines, *_how(list(read.values()))]


def _how(traces: Sequence[Trace]) -> list[str]:
    """Settings and machines, as the headers have them."""
    settings = [trace.settings for trace in traces]
    sessions = [session for trace in traces for session in trace.sessions]

    def named(values: Any) -> str:
        return ", ".join(sorted({str(value) for value in values if value is not None}))

    versions = {
        f"{name} {version}" for s in sessions for name, version in s.get("versions", {}).items()
    }
    weights = sorted({(s["provider"], str(s["weights"])) for s in settings})
    days = sorted(session["started"][:10] for session in sessions)
    return [
        f"- **How**: temperature {named(s['temperature'] for s in settings)}, seed"
        f" {named(s['seed'] for s in settings)}, {named(s['dtype'] for s in settings)};"
        f" {named(versions)}; {named(s.get('hardware') for s in sessions)};"
        f" {days[0]} to {days[-1]};"
        f" scored by version {named(s.get('scoring') for s in sessions)} of the checks",
        "- **Weights**, sha256: " + ", ".join(f"{name} `{digest}`" for name, digest in weights),
    ]


BEGIN, END = "<!-- written by scripts.build_open_models -->", "<!-- until here -->"


def sources(traces: Path, curves: Path) -> str:
    """The entries of SOURCES.md: the curve file, then one for each trace."""
    markets = dict.fromkeys(MARKETS[read_trace(path).settings["task"]] for path in _shipped(traces))
    loads = [f'`load_market("{market}", method)`' for market in markets]
    lines = [
        BEGIN,
        "",
        f"## {CURVES}",
        "",
        "- **What**: quality curves of open models, the markets"
        f" {' and '.join(loads)}. Columns as in",
        "  `measured_curves.csv`. All providers of a market and method are compared on the same"
        " questions: those that every one of them has answered, counted below. Levels are powers",
        "  of two up to the samples drawn; `reasoning` (where it was measured) holds budgets"
        " cut from one thought.",
        "- **From**: measured for this project with `ttc_env.measure`"
        " (`scripts/open_models/README.md`: where models and questions come from, with hashes;"
        " prompts stand in the campaigns",
        "  beside it and with every question in the traces).",
        "",
        *facts(traces),
        "- **Assigned, not measured**: prices. The largest model costs what the paper lists for"
        " Qwen2-1.5B (0.10 USD per 1M tokens), the others less by the root of their parameters"
        " without the",
        "  embedding table; margin 0.25; alpha 0.008 USD as for GSM8K.",
        "- **Licence**: MIT for curves and samples; questions GSM8K (OpenAI, MIT) and MMLU"
        " (Hendrycks et al., MIT); models Apache-2.0.",
        f"- **sha256**: `{_digest(curves)}`",
    ]
    for path in _shipped(traces):
        lines += ["", f"## {TRACES}/{path.name}", "", f"- **sha256**: `{_digest(path)}`"]
    return "\n".join([*lines, "", END]) + "\n"


def with_section(text: str, section: str) -> str:
    """`text` with the section in the place of an earlier one, or at its end."""
    if BEGIN in text:
        before, rest = text.split(BEGIN)
        return before + section + rest.split(END + "\n")[1]
    return text.rstrip("\n") + "\n\n" + section


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summary(curves: Mapping[tuple[str, str], Sequence[MeasuredCurve]]) -> str:
    """What the file holds, at a glance."""
    rows = [
        f"{market:<15} {method:<10} {len(group)} models on {len(group[0].ids)} questions, levels"
        f" {', '.join(map(str, np.asarray(group[0].levels)))}"
        for (market, method), group in curves.items()
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pack", type=Path, nargs="+", help="folders of .jsonl traces to take over first"
    )
    parser.add_argument(
        "--least", type=int, default=LEAST, help="questions that a model needs to be in a market"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the package's data")
    args = parser.parse_args()
    traces, curves = args.data / TRACES, args.data / CURVES
    if args.pack:
        for line in take_over(args.pack, traces, args.least):
            print(line)
    table = build(traces)
    write_text(curves, to_csv(table))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(summary(shared_curves(traces)))
    page = args.data / "SOURCES.md"
    text = page.read_text("utf-8") if page.exists() else "# Sources\n"
    write_text(page, with_section(text, sources(traces, curves)))
    print(f"{curves} and {page} are written")


if __name__ == "__main__":
    main()
