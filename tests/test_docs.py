"""What documents and docstrings refer to exists: headings, theorems, files, commands, names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("ttc_env", "agents", "baselines", "scripts", "tests", "examples")
SOURCES = sorted(
    path for part in CODE for path in (ROOT / part).rglob("*.py") if path != Path(__file__)
)
PAGES = sorted(
    path
    for pattern in ("*.md", "*/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
    if path.relative_to(ROOT).parts[0] in (*CODE, ".github", "docs") or path.parent == ROOT
)
GAME = ROOT / "ttc_env/game/GAME.md"
# Pages kept within 100 columns; rows of tables, which cannot be broken, may be longer in README.
NARROW = [GAME, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]


def name(path):
    return str(path.relative_to(ROOT))


def without_code(text):
    """A page less its fenced blocks and code spans."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def headings(text):
    """Headings, and the bold phrases that open a paragraph or an item: both are cited."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[`*]", "", title).strip(". ") for title in titles} | {
        bold.strip(". ") for bold in re.findall(r"\*\*([^*]+)\*\*", text)
    }


def theorems(text):
    return [int(number) for number in re.findall(r"^(\d+)\. \*\*", text, flags=re.MULTILINE)]


def one_line(text):
    """Docstrings and comments with their line breaks, and the signs of comments, taken out."""
    return re.sub(r"\s*\n\s*(?:#:? )?", " ", text)


# 'GAME.md, theorem 3, "All PNE without search"', 'README, oddity 4', 'GAME.md, Notation'
CITATION = re.compile(
    r"(?P<folder>(?:\w+/)*)(?P<page>GAME|README|CONTRIBUTING|BENCHMARKS|SECURITY|SOURCES|RULES|STYLE)(?:\.md)?`?"
    r"(?:\]\([^)]*\))?"
    r'(?P<places>(?:,? (?:theorems? \d+(?:(?:, | and |-)\d+)*|"[^"]+"|oddity \d+)|, [A-Z][a-z]+'
    r"(?= *[).;])|, \d+(?= *[).;]))*)"
)


def citations(text):
    for found in CITATION.finditer(one_line(text)):
        for place in re.findall(
            r'theorems? [\d, and-]*\d|"[^"]+"|oddity \d+|[A-Z][a-z]+|\d+', found["places"]
        ):
            yield found["folder"], found["page"], place, found.group(0)


def pages_called(folder, page, cited_in):
    """The files that a name may mean: the one beside the citing file first, then the root's."""
    if folder:
        return [path for path in [ROOT / folder / f"{page}.md"] if path.exists()]
    names = {"GAME": [GAME], "SOURCES": [ROOT / "ttc_env/data/SOURCES.md"]}
    own = [cited_in.parent / f"{page}.md", ROOT / f"{page}.md"]
    return [path for path in names.get(page, own) if path.exists()]


def problems_of_citations(path, text):
    for folder, page, place, whole in citations(text):
        found = pages_called(folder, page, path)
        if not found:
            yield f"{name(path)} cites {whole!r}, and there is no such page"
        elif "theorem" in place:
            missing = {int(n) for n in re.findall(r"\d+", place)} - set(theorems(GAME.read_text()))
            if missing:
                yield f"{name(path)} cites {whole!r}, which has no theorem {sorted(missing)}"
        elif place.strip('"') not in set().union(*(headings(p.read_text()) for p in found)):
            yield f"{name(path)} cites {whole!r}, which has no heading {place}"


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=name)
def test_citations_of_pages_lead_somewhere(path):
    assert list(problems_of_citations(path, path.read_text())) == []


def test_the_test_of_citations_finds_what_is_wrong():
    here = ROOT / "ttc_env/game/welfare.py"
    for wrong in (
        "(README, oddity 4)",
        "GAME.md, theorem 99",
        "GAME.md, theorems 3 and 99",
        'GAME.md, "The pay-per-thought\n    market"',
        'GAME.md, theorem 3, "All PNE by prayer"',
        "(GAME.md, Notations)",
        "(GAME.md, 5)",
        'RULES.md, "Five nouns"',
        'ttc_env/measure/README.md, "Run it"',
    ):
        assert len(list(problems_of_citations(here, wrong))) == 1, wrong
    for right in (
        '(GAME.md, theorem 3,\n    # "All PNE without search")',
        '(GAME.md, "Dominant\n    strategy")',
        "GAME.md, Notation).",
        "GAME.md's order",
        'ttc_env/measure/README.md, "Traces"',
        "RULES = [1]",
    ):
        assert list(problems_of_citations(here, right)) == [], right


def test_the_rule_example_runs_and_is_short():
    """The rule on the page Add a rule, between its two marks: at most 30 lines."""
    text = (ROOT / "docs/add-a-rule.md").read_text()
    place = text.split("<!-- rule example -->")[1].split("<!-- end of the rule example -->")[0]
    example = re.search(r"```python\n(.*?)```", place, flags=re.DOTALL)
    assert example is not None
    assert len(example.group(1).strip().splitlines()) <= 30
    # In a process of its own: it registers a name.
    subprocess.run([sys.executable, "-c", example.group(1)], check=True, cwd=ROOT)


def test_theorems_are_numbered_without_a_gap():
    numbers = theorems(GAME.read_text())
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 21


def anchors(path):
    titles = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", without_code(path.read_text())):
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.exists(), f"{name(path)} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{name(path)} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_on_pages_exist(path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), flags=re.DOTALL))
    for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", code, flags=re.MULTILINE):
        assert target in targets, f"{name(path)}: make {target}"
    for module in re.findall(r"python -m ((?:scripts|baselines)[\w.]*)", code):
        file = ROOT / (module.replace(".", "/") + ".py")
        assert file.exists(), f"{name(path)}: python -m {module}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_files_that_pages_name_exist(path):
    for file in re.findall(r"`((?:[\w.*-]+/)+[\w.*-]+\.(?:py|md|csv|toml|yml))`", path.read_text()):
        if file.split("/")[0] in (*CODE, ".github"):
            assert list(ROOT.glob(file)), f"{name(path)} names {file}"


@pytest.mark.parametrize("path", NARROW, ids=name)
def test_pages_are_within_100_columns(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        assert len(line) <= 100 or re.search(r"\]\(http\S+\)", line), f"{name(path)}:{number}"


def test_names_in_the_notation_table_are_names_of_the_code():
    table = GAME.read_text().split("## Notation")[1].split("\nList prices")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    names = {code for row in rows[1:] for code in re.findall(r"`(\w+)`", row[1])}
    assert len(names) > 25
    words = set(re.findall(r"\w+", "\n".join(p.read_text() for p in SOURCES)))
    assert not names - words


# Formulas. What GitHub's Markdown would take for its own signs, or eat, may not stand in them.
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", flags=re.DOTALL)
INLINE = re.compile(r"(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)")


def formulas(text):
    text = without_code(text)
    return DISPLAYED.findall(text) + INLINE.findall(DISPLAYED.sub("", text))


def test_formulas_render_on_github():
    text = without_code(GAME.read_text())
    for formula in formulas(text):
        for trap, why in (
            (r"\*", "an asterisk may start emphasis: \\star, \\cdot"),
            (r"\\[^A-Za-z]", "Markdown eats a backslash before punctuation"),
            (r"<[A-Za-z/]", "starts an HTML tag: leave a space"),
            (r"\|", "ends a table's cell: \\vert"),
            (r"\n\s*([-+]|\d+\.) ", "starts a list"),
        ):
            assert not re.search(trap, formula), f"${formula}$: {why}"
        assert formula.count("{") == formula.count("}"), formula
        assert formula.count("\\left") == formula.count("\\right"), formula
    for line in DISPLAYED.sub("", text).splitlines():
        assert line.count("$") % 2 == 0, f"a formula must not run over the end of a line: {line}"
        for found in INLINE.finditer(line):
            assert found.group(1) == found.group(1).strip(), line
            before, after = line[: found.start()][-1:], line[found.end() :][:1]
            assert before in ("", " ", "(", "["), f"GitHub does not see {found.group(0)}: {line}"
            assert after in ("", *" ,.;:)]?"), f"GitHub does not see {found.group(0)}: {line}"


def test_formulas_can_be_typeset():
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    found = formulas(GAME.read_text())
    assert len(found) > 300
    for formula in found:
        parser.parse("$" + " ".join(formula.split()) + "$")
