"""Many random inputs, and what they did: slow tests with a floor on how many there are.

    python -m tests.fuzz             # all of them, and the table in tests/fuzz/README.md
    python -m tests.fuzz games       # one part

Every run draws the same inputs; `TTC_FUZZ_SEED=7` draws others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEED = int(os.environ.get("TTC_FUZZ_SEED", "0"))


class Tally:
    """How many inputs were tried, and what failed."""

    def __init__(self) -> None:
        self.inputs, self.refused = 0, 0
        self.failures: list[str] = []


@contextmanager
def tally(name: str, what: str, floor: int) -> Iterator[Tally]:
    """Counts a test's inputs; says and keeps what it came to, and fails if anything failed or the
    inputs were fewer than `floor`.
    """
    found, start = Tally(), time.process_time()
    yield found
    row = {
        "name": name,
        "what": what,
        "inputs": found.inputs,
        "refused": found.refused,
        "failures": len(found.failures),
        "seconds": round(time.process_time() - start),
        "seed": SEED,
    }
    print(f"\n{name}: {json.dumps(row)}")
    if out := os.environ.get("TTC_FUZZ_OUT"):
        with Path(out).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
    assert not found.failures, found.failures[:5]
    assert found.inputs >= floor, (found.inputs, floor)
