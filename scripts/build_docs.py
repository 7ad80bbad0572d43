"""Build the documentation site: `make docs`.

    python -m scripts.build_docs [--out build/docs] [--pages-only]

The pages are the Markdown files of `docs/`, those that lie beside the code (`ELSEWHERE`: theory,
results, sources of data), and what is written from the code: a page for each environment id and the
API reference (`scripts/docs_reference.py`). They are gathered in `build/docs/source`, where links
between files of the repository become links between pages, or to the repository's own site; then
Sphinx makes HTML of them. A warning is an error. Exit status 1 if there is one, or no Sphinx.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from baselines.errors import failed
from scripts import docs_reference

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/ttc-env/ttc-env"
PICTURES = (".png", ".gif", ".svg")
FIXED = {
    "ttc_env/game/GAME.md": "theory.md",
    "BENCHMARKS.md": "results/speed.md",
    "baselines/README.md": "results/learners.md",
    "baselines/reasons.md": "",  # is part of the page above
    "ttc_env/measure/README.md": "measuring.md",
    "ttc_env/data/SOURCES.md": "sources.md",
    "scripts/open_models/README.md": "results/open-models.md",
    "explorer/README.md": "explorer.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages that lie beside the code, and their names on the site. Others of `baselines/*/README.md`
are `results/*.md`."""

NAVIGATION = {
    "Start": ("first-steps", "environments", "report-and-explorer"),
    "How to": (
        "train", "compare-rules", "moving-world", "many-games", "many-runs", "other-libraries",
        "measure-your-models", "add-a-rule",
    ),
    "Reference": (
        "options", "solvers", "notation", "Theory <theory>", "api/*",
        "Measuring, in detail <measuring>", "Data <sources>",
    ),
    "Results": (
        "paper", "Learners <results/learners>", "Pricing rules <results/mechanisms>",
        "Frontier models <results/frontier>", "results/*",
    ),
    "Project": ("explorer", "contributing", "changelog", "security"),
}  # fmt: skip
"""What every page's margin shows: captions, and pages or patterns of them."""
FENCED = re.compile(r"(^ *`{3,}.*?^ *`{3,}[^\n]*$)", flags=re.DOTALL | re.MULTILINE)
MATHEMATICS = ("theory.md", "notation.md")
"""Pages in which $...$ is a formula; in others it is money."""


def pages() -> dict[str, str]:
    """Every Markdown file that becomes a page, relative to the root, and its name on the site."""
    own = {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    results = {
        path.relative_to(ROOT).as_posix(): f"results/{path.parent.name}.md"
        for path in sorted((ROOT / "baselines").glob("*/README.md"))
    }
    return {**results, **{k: v for k, v in FIXED.items() if v}, **own}


def rewrite_links(text: str, source: str, site: Mapping[str, str], used: set[str]) -> str:
    """The text of a page with its links made good for the site.

    Args:
        source: the file, relative to the root.
        site: file -> page.
        used: pictures that are shown are added here, relative to the root.
    """
    here = posixpath.dirname(site[source])

    def new(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found.group(0)
        path, _, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        anchor = f"#{anchor}" if anchor else ""
        if file in site:
            return f"{before}{posixpath.relpath(site[file], here or '.')}{anchor}{after}"
        if file.endswith(PICTURES):
            used.add(file)
            return f"{before}{posixpath.relpath(f'pictures/{file}', here or '.')}{after}"
        kind = "tree" if (ROOT / file).is_dir() else "blob"
        return f"{before}{REPOSITORY}/{kind}/main/{file}{anchor}{after}"

    parts = FENCED.split(text)
    return "".join(
        part if k % 2 else re.sub(r"(\]\()([^)\s]+)(\))", new, part) for k, part in enumerate(parts)
    )


def link_names(text: str, page: str) -> str:
    """Ids of environments and names of the package, in code spans of their own, become links."""
    up = posixpath.relpath(".", posixpath.dirname(page) or ".")
    names = docs_reference.public_names()

    def new(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in docs_reference.environment_ids():
            return f"[`{name}`]({up}/{docs_reference.page_of(name)})"
        short = name.removeprefix("ttc_env.")
        return f"{{py:obj}}`{name} <ttc_env.{short}>`" if short in names else found.group(0)

    pattern = r"(?<![\[`])`(ttc_env[/.][\w-]+)`(?![`\]])"
    return "".join(
        line if k % 2 or line.startswith("#") else re.sub(pattern, new, line)
        for k, part in enumerate(FENCED.split(text))
        for line in part.splitlines(keepends=True)
    )


def navigation(text: str) -> str:
    """The first page with the table of contents that every page's margin shows."""
    for caption, entries in NAVIGATION.items():
        text += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n"
        text += "\n".join(entries) + "\n```\n"
    return text


def gather(folder: Path) -> None:
    """Write all that Sphinx reads into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    site, used = pages(), set[str]()
    known = {**site, "README.md": "index.md"}  # docs/index.md stands for it
    for source, page in site.items():
        text = rewrite_links((ROOT / source).read_text(encoding="utf-8"), source, known, used)
        if source.startswith("docs/"):
            text = link_names(text, page)
        if page == "index.md":
            text = navigation(text)
        if page == "environments.md":
            text += "\n```{toctree}\n:hidden:\n:glob:\n\nenvironments/*\n```\n"
        if page in MATHEMATICS:
            text = f"---\nmyst:\n  enable_extensions: [colon_fence, dollarmath]\n---\n{text}"
        _write(folder / page, text)
    for picture in used:
        (folder / "pictures" / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / picture, folder / "pictures" / picture)
    for page, content in docs_reference.written():
        _write(folder / page, content)
    for file in ("conf.py", "site.css"):
        shutil.copyfile(ROOT / "docs" / file, folder / file)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.build_docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/docs")
    parser.add_argument("--pages-only", action="store_true", help="gather the pages; no Sphinx")
    parser.add_argument("--define", action="append", default=[], help="as sphinx-build -D")
    options = parser.parse_args(None if arguments is None else list(arguments))
    source = options.out / "source"
    gather(source)
    if options.pages_only:
        print(f"written to {source}")
        return 0
    try:
        from sphinx.cmd.build import main as sphinx
    except ImportError:
        return failed(ImportError("make docs needs Sphinx: pip install -e '.[docs]'"), 1)
    html = options.out / "html"
    defined = [word for setting in options.define for word in ("-D", setting)]
    status = sphinx(["-W", "--keep-going", "-q", "-E", *defined, str(source), str(html)])
    if status == 0:
        print(f"written to {html}: open {html / 'index.html'}")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
