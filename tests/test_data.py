"""Data files: every one has a source entry with its hash, and says what it claims to."""

import hashlib
import re
from importlib import resources
from pathlib import Path

import numpy as np

from ttc_env.game.curves import (
    BENCHMARKS,
    METHODS,
    list_prices,
    published_curves,
    published_results,
)

DATA = Path(str(resources.files("ttc_env"))) / "data"


def test_every_data_file_has_a_source_entry_with_its_hash():
    sources = (DATA / "SOURCES.md").read_text()
    entries = dict(
        re.findall(
            r"^## (\S+)\n(?:.*\n)*?- \*\*sha256\*\*: `([0-9a-f]{64})`", sources, flags=re.MULTILINE
        )
    )
    files = {
        path.relative_to(DATA).as_posix(): path
        for path in DATA.rglob("*")
        if path.is_file() and path.suffix != ".md"
    }
    assert set(entries) == set(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entries[name], (
            f"{name} changed; update data/SOURCES.md"
        )


def test_published_curves_are_complete():
    curves = published_curves()
    assert len(curves) == 369
    counts = curves.groupby(["benchmark", "method"]).size().unstack()
    assert set(counts.index) == set(BENCHMARKS)
    assert set(counts.columns) == set(METHODS)
    assert (counts[["majority", "best_of_n"]] == 54).all().all()  # 9 models x 6 levels
    assert (counts.reasoning == 15).all()  # 3 models x 5 levels
    assert set(curves.provider) == set(list_prices())
    assert curves.accuracy.between(0, 1).all()
    assert (curves.tokens > 0).all()


def test_samples_cost_tokens_in_proportion():
    """k samples are billed as k times one sample: a property of how the instruct models were run,
    so an independent check of the digits.
    """
    curves = published_curves().query("method != 'reasoning'")
    per_sample = curves.tokens / curves.level
    mean = per_sample.groupby([curves.benchmark, curves.method, curves.provider]).transform("mean")
    np.testing.assert_allclose(per_sample, mean, rtol=3e-3)


def test_printed_results_cover_all_benchmarks():
    results = published_results()
    assert len(results) == 288
    assert set(results.benchmark) == set(BENCHMARKS)
    assert set(results.beta) == {"200", "1000", "100000", "auction"}
    assert (results.groupby(["benchmark", "method"]).size() == 32).all()
