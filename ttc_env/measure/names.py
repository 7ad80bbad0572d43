"""Names that become parts of file names: a provider's, a task's."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r'[/\\*?"<>|\x00-\x1f\x7f]')
LONGEST = 120


def file_name(name: str) -> str:
    """`name` as a part of a file name; a colon becomes a hyphen.

    Raises:
        ValueError: it holds a path, begins with a dot or a hyphen, is empty, or too long.
    """
    if (
        not name.strip()
        or name != name.strip()
        or name[0] in ".-"
        or len(name) > LONGEST
        or _FORBIDDEN.search(name)
    ):
        raise ValueError(
            f"{name[:80]!r} cannot be part of a file name; use letters, digits and . _ - + @, at"
            f" most {LONGEST} of them, not beginning with a dot or a hyphen"
        )
    return name.replace(":", "-")
