"""Errors of commands: one line each."""

from __future__ import annotations

import sys

from ttc_env.cli import of_the_system


def failed(error: Exception, status: int) -> int:
    """Print an error on one line; returns the exit status."""
    text = of_the_system(error) if isinstance(error, OSError) else str(error)
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return status
