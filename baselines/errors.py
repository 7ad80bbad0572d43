"""Errors of commands: one line each."""

from __future__ import annotations

import sys


def failed(error: Exception, status: int) -> int:
    """Print an error on one line; returns the exit status."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}; choose another file or --out"
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return status
