"""The README's Python runs and prints what the README says; its links lead to files.

Its other pages are those of the site: `tests/test_site.py`.
"""

import contextlib
import io
import re
from pathlib import Path

import pettingzoo
import pytest

from ttc_env.registration import PETTINGZOO_IDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_block_prints_what_is_shown():
    ((code, shown),) = re.findall(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL
    )
    assert 5 <= len(code.strip().splitlines()) <= 14
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown


def test_every_id_can_be_made():
    if not hasattr(pettingzoo, "make"):
        pytest.skip("PettingZoo before 1.27 has no ids")
    for name in PETTINGZOO_IDS:
        for kind in ("parallel", "aec"):
            assert len(pettingzoo.make(kind, name).possible_agents) == 9


def test_links_to_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_page_that_teaches_is_linked():
    """From here, or from the site's first page, so that none is lost."""
    pages = README + (ROOT / "docs/index.md").read_text()
    for path in set((ROOT / "docs").glob("*.md")) - {ROOT / "docs/index.md"}:
        assert path.name in pages, path
