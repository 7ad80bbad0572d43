"""Signals that ask a run to end: it finishes its round, saves, and ends."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE = 1.0
"""Seconds after the first signal during which others mean the same: a terminal, a shell and a batch
system may each send one. A Ctrl-C after that, outside of a save, stops at once.
"""


class Interrupted(KeyboardInterrupt):
    """A run ended early, after it saved."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number  # of the signal


class Interrupts:
    """Whether to stop, and by which signal."""

    def __init__(self) -> None:
        self.number = 0
        self.saving = False
        self._first = 0.0

    @property
    def asked(self) -> bool:
        return self.number != 0

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The signals' handler."""
        if not self.asked:
            self.number, self._first = number, time.monotonic()
        elif (
            number == signal.SIGINT
            and not self.saving
            and time.monotonic() - self._first > PATIENCE
        ):
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def save(self) -> Iterator[None]:
        """While this is open no signal stops anything."""
        self.saving = True
        try:
            yield
        finally:
            self.saving = False


@contextlib.contextmanager
def polite() -> Iterator[Interrupts]:
    """SIGINT, SIGTERM and SIGHUP are noted in what this yields, and no more than noted. Signals
    that the process was started to ignore (`nohup`) stay ignored. Outside of the main thread, where
    Python handles no signals, nothing is changed.
    """
    interrupts = Interrupts()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, interrupts.note)
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
