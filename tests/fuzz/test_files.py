"""Files of other programs and damaged files of ours; processes killed while they write."""

from __future__ import annotations

import functools
import gzip
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import checkpoint
from tests.fuzz import SEED, tally
from tests.game.test_curve_files import GOOD as GOOD_CURVES
from tests.measure.test_importers import inspect_sample, paper_row, variants
from ttc_env.game.curves import load_market
from ttc_env.measure import importers, scoring
from ttc_env.measure.samples import from_records
from ttc_env.measure.traces import read_trace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAPER = json.loads(paper_row("good"))
LM_EVAL = {"doc_id": 1, "target": "9", "resps": [["=9", "=8"]], "filter": "none"}
CHECK = functools.partial(scoring.check_exact, pattern="=([0-9])$")


def twice_odd(row: dict[str, Any], rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Rows of which two parts were replaced by something odd."""
    once = [one for one in variants(row) if isinstance(one, dict)]
    return [rng.choice(list(variants(rng.choice(once)))) for _ in range(count)]


def test_importers(tmp_path):
    rng = random.Random(SEED)
    what = "a row with two odd parts, a damaged line, or a damaged archive, for each importer"
    path = tmp_path / "samples.jsonl"
    with tally("importers", what, 26_272) as found:
        for row, key, read in (
            (PAPER, "qid", lambda: importers.import_paper(path, samples=1)),
            (LM_EVAL, "doc_id", lambda: importers.import_lm_eval(path, CHECK, len, samples=1)),
        ):
            ends = [json.dumps({**row, key: name}) for name in ("first", "last")]
            for _ in range(20):
                odd = [json.dumps(one) for one in twice_odd(row, rng, 250)]
                damaged = [edited(json.dumps(row).encode(), rng) for _ in range(250)]
                lines = [x.encode() for x in odd] + [x.replace(b"\n", b" ") for x in damaged]
                path.write_bytes(b"\n".join([ends[0].encode(), *lines, ends[1].encode()]))
                found.inputs += len(lines)
                attempt(found, read)
        log = tmp_path / "log.json"
        for _ in range(20):
            rows = twice_odd(inspect_sample("q", 1), rng, 250)
            samples = [inspect_sample("first", 1), *rows, inspect_sample("last", 1)]
            log.write_text(json.dumps({"samples": samples}))
            found.inputs += len(rows)
            attempt(found, lambda: importers.import_inspect(log, samples=1))
        archive = tmp_path / "log.eval"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for i in range(3):
                file.writestr(f"samples/{i}.json", json.dumps(inspect_sample(f"q{i}", 1)))
        whole = archive.read_bytes()
        for _ in range(1_500):
            archive.write_bytes(edited(whole, rng))
            found.inputs += 1
            try:
                importers.import_inspect(archive)
            except ValueError as error:
                found.refused += 1
                if str(archive) not in str(error):
                    found.failures.append(str(error))
            except Exception as error:
                found.failures.append(f"{type(error).__name__}: {error}")


def attempt(found: Any, read: Callable[[], Any]) -> None:
    """Read a file of odd rows: the good ones at its ends survive, and what is kept can be used."""
    try:
        records, report = read()
        found.refused += len(report.dropped)
        if not {"first", "last"} <= set(records):
            found.failures.append(f"good rows were lost: {str(report)[:200]}")
        from_records(records, warn=lambda _: None).accuracy("majority", [1])
    except Exception as error:
        found.failures.append(f"{type(error).__name__}: {str(error)[:200]}")


def edited(content: bytes, rng: random.Random) -> bytes:
    """The content with up to three bytes or stretches changed, cut out or put in; or cut off."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        new = rng.randbytes(rng.choice([0, 1, 1, 1, 4]))
        content = content[:at] + new + content[at + rng.choice([0, 1, 1, 8, 10_000]) :]
    return content


def test_damaged_files(tmp_path):
    rng = random.Random(SEED + 1)
    trace = ROOT / "ttc_env" / "data" / "measured_traces"
    packed = (trace / "smollm2-135m-instruct--sums--n32-t1.jsonl.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines(keepends=True)
    plain = b"".join(lines[:4])
    saved = tmp_path / "good.npz"
    checkpoint.save(saved, {"t": 1, "agents": {"a": np.arange(5.0)}, "name": "hedge"})
    kinds: list[tuple[str, bytes, Callable[[Path], Any]]] = [
        ("mine.csv", GOOD_CURVES, lambda path: load_market(path, alpha=1.0)),
        ("trace.jsonl", plain, read_trace),
        ("trace.jsonl.gz", gzip.compress(plain), read_trace),
        ("checkpoint.npz", saved.read_bytes(), checkpoint.load),
    ]
    what = "a curve file, trace, packed trace or checkpoint with bytes changed, put in or cut"
    with tally("damaged", what, 8_000) as found:
        for name, good, read in kinds:
            path = tmp_path / name
            for _ in range(2_000):
                path.write_bytes(edited(good, rng))
                found.inputs += 1
                try:
                    read(path)
                except (ValueError, OSError) as error:
                    found.refused += 1
                    if name not in str(error):
                        found.failures.append(f"{name}: {error}")
                except Exception as error:
                    found.failures.append(f"{name}: {type(error).__name__}: {error}")


COLLECT = """
import sys
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel
from ttc_env.measure.tasks import load_task
dial = Parallel(Sampling(n=4, max_tokens=48))
collect(load_task("chains", limit=2000), FakeBackend(), dial, sys.argv[1], batch=2)
"""


def test_kills(tmp_path):
    """A process that samples is killed at a random moment and started again, over and over; in the
    end its trace holds, byte for byte, the samples of one that was left alone.
    """
    rng = random.Random(SEED + 2)
    whole, path = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"

    def run(target: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", COLLECT, str(target)], cwd=ROOT, stderr=subprocess.DEVNULL
        )

    assert run(whole).wait() == 0
    expected = samples_of(whole)
    with tally("kills", "kill -9 of a process that samples, and a new start", 61) as found:
        while found.inputs < 61:
            path.unlink(missing_ok=True)
            while True:
                process = run(path)
                before = path.stat().st_size if path.exists() else 0
                grown = before + rng.randrange(1, 60_000)
                while process.poll() is None and (not path.exists() or path.stat().st_size < grown):
                    time.sleep(0.002)
                if process.poll() is not None:
                    break
                process.kill()
                process.wait()
                found.inputs += 1
            if process.returncode or samples_of(path) != expected:
                found.failures.append(f"exit {process.returncode} after {found.inputs} kills")


def samples_of(path: Path) -> list[str]:
    """Every question's line."""
    return [json.dumps(record, sort_keys=True) for record in read_trace(path).records.values()]
