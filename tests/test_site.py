"""The documentation site: its blocks run, its pages hold what the code has, its links lead on.

`make docs` builds it, with warnings as errors; CI runs that, too.
"""

import contextlib
import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pettingzoo
import pytest

import ttc_env
from scripts import build_docs, docs_reference
from scripts.build_docs import link_names, pages, rewrite_links
from ttc_env.envs.config import make_config
from ttc_env.envs.options import GameOptions
from ttc_env.registration import PETTINGZOO_IDS

ROOT = Path(__file__).parents[1]
OWN = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
SLOW = ("compare-rules",)
WITH_BLOCKS = [path for path in OWN if BLOCK.search(path.read_text())]

# Runs the blocks of the page that is named, one after the other, and compares what they print.
RUNNER = """
import contextlib, io, json, sys
names = {}
for code, shown in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    assert printed.getvalue() == shown, f"{code}\\nprinted\\n{printed.getvalue()}not\\n{shown}"
"""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW))
        for path in WITH_BLOCKS
    ],
)
def test_blocks_print_what_is_shown(path, tmp_path):
    """In a process of their own: a page may register rules, and write files where it is run."""
    blocks = BLOCK.findall(path.read_text())
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RUNNER}"],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr


def test_blocks_are_found_on_the_pages_that_teach():
    assert len(WITH_BLOCKS) >= 9
    assert sum(len(BLOCK.findall(path.read_text())) for path in WITH_BLOCKS) >= 20


@pytest.mark.parametrize("name", docs_reference.environment_ids())
def test_the_example_of_every_id_runs(name):
    if not hasattr(pettingzoo, "make"):
        pytest.skip("PettingZoo before 1.27 has no ids")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(docs_reference.example(name), {})


def test_every_id_is_in_the_table_and_has_a_page():
    text = (ROOT / "docs/environments.md").read_text()
    listed = set(re.findall(r"^\| `(ttc_env/\S+-v\d+)`", text, flags=re.MULTILINE))
    assert listed == set(docs_reference.environment_ids())
    assert set(PETTINGZOO_IDS) < listed


def test_every_option_is_documented():
    text = (ROOT / "docs/options.md").read_text()
    names = [name for name in inspect.signature(make_config).parameters if name != "options"]
    names += get_type_hints(GameOptions)
    for name in names:
        assert f"`{name}`" in text, f"docs/options.md does not name the option {name}"
        assert f"`{name}`" in ttc_env.MarketEnv.__doc__, (
            f"MarketEnv's docstring does not name the option {name}"
        )


def test_a_page_says_what_the_environment_is():
    pytest.importorskip("PIL")
    files = dict(docs_reference.environment_page("ttc_env/AuctionMisreport-v0"))
    page = files["environments/auctionmisreport-v0.md"]
    env = ttc_env.parallel_env(**PETTINGZOO_IDS["ttc_env/AuctionMisreport-v0"])
    assert f"`{env.action_space('provider_0')}`" in page
    for block in env.layout.blocks:
        assert f"`{block.name}` | {block.text}" in page
    assert "`misreport=" in page
    assert files["environments/auctionmisreport-v0.png"].startswith(b"\x89PNG")


def test_the_reference_has_every_public_name_and_its_members():
    text = "\n".join(page for _, page in docs_reference.reference_pages())
    for name in ttc_env.__all__:
        assert re.search(rf"{{py:(class|function)}} ttc_env\.{name}\b", text), name
    assert "{py:property} price_of_anarchy" in text
    assert "`[M, K]` 1/USD" in text  # a field's comment
    assert "- `tolerance`: log-utility gap" in text  # Args: as a list


def test_docstrings_become_markdown():
    found = docs_reference.as_markdown(
        "One line.\n\n## Part\n\nArgs:\n    first, *rest: what\n        goes on.\n    last: x\n"
        "\nEnd."
    )
    assert found.splitlines() == [
        "One line.", "", "**Part**", "", "", "**Arguments**", "",
        "- `first`, `*rest`: what", "  goes on.", "- `last`: x", "", "End.",
    ]  # fmt: skip


SITE = {"docs/a.md": "a.md", "baselines/README.md": "results/learners.md"}


@pytest.mark.parametrize(
    "source, text, expected",
    [
        ("docs/a.md", "[x](../baselines/README.md#why)", "[x](results/learners.md#why)"),
        ("docs/a.md", "[`x`](../ttc_env/testing.py)", "[`x`]({blob}/ttc_env/testing.py)"),
        ("docs/a.md", "[x](../ttc_env/game)", "[x]({tree}/ttc_env/game)"),
        ("docs/a.md", "![x](episode.gif)", "![x](pictures/docs/episode.gif)"),
        ("docs/a.md", "[x](https://a.b/c) [y](#z)", "[x](https://a.b/c) [y](#z)"),
        ("docs/a.md", "```sh\n[x](../README.md)\n```", "```sh\n[x](../README.md)\n```"),
        ("baselines/README.md", "[x](../docs/a.md)", "[x](../a.md)"),
        (
            "baselines/README.md",
            "![x](results/w.png)",
            "![x](../pictures/baselines/results/w.png)",
        ),
    ],
)
def test_links_are_rewritten(source, text, expected):
    used = set()
    found = rewrite_links(text, source, SITE, used)
    places = {kind: f"{build_docs.REPOSITORY}/{kind}/main" for kind in ("blob", "tree")}
    assert found == expected.format(**places) if "{" in expected else found == expected
    assert len(used) == text.count("![")


def test_names_are_linked_but_not_in_code_or_headings():
    text = "`ttc_env.solve` `ttc_env/Market-v0` `ttc_env.nothing`\n# `ttc_env.solve`\n"
    assert link_names(text, "a.md") == (
        "{py:obj}`ttc_env.solve <ttc_env.solve>` [`ttc_env/Market-v0`]"
        "(./environments/market-v0.md) `ttc_env.nothing`\n# `ttc_env.solve`\n"
    )
    code = "```python\n`ttc_env.solve`\n```\n"
    assert link_names(code, "a.md") == code


def test_every_page_of_the_repository_is_on_the_site():
    site = pages()
    assert len(set(site.values())) == len(site)
    entries = [entry for group in build_docs.NAVIGATION.values() for entry in group]
    targets = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
    for source, page in site.items():
        stem = page.removesuffix(".md")
        known = stem in targets or (stem.startswith("results/") and "results/*" in targets)
        assert known or page == "index.md", source
