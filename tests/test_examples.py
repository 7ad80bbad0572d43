"""The examples run to the equilibrium, each where its library is installed; one is skipped with the
command that installs it where it is not.
"""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TOLERANCE = 1e-9  # USD per arriving user; profits are about 1e-3

if not EXAMPLES:
    pytest.skip("an installation, which has no examples", allow_module_level=True)


def test_the_workflow_runs_every_example():
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    matrix = jobs["examples"]["strategy"]["matrix"]["example"]
    assert matrix == [path.stem for path in EXAMPLES]


def needs(path):
    """What must be installed, in pip's words."""
    return re.search(r"^Needs: (pip install .+)$", path.read_text(), re.MULTILINE).group(1)


def missing(path):
    """Modules that a file imports and that are not there."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return sorted(name for name in found if importlib.util.find_spec(name) is None)


def result(printed):
    """Levels learned, levels in equilibrium, NashConv."""
    learned, nash_conv = re.search(r"learned +(\[.*?\]) NashConv (\S+)", printed).groups()
    return learned, re.search(r"equilibrium (\[.*?\])", printed).group(1), float(nash_conv)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_needs(path):
    assert needs(path).startswith("pip install ttc-env")
    assert len(path.read_text().splitlines()) <= 70
    assert path.stem in (ROOT / "docs/other-libraries.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_ends_in_the_equilibrium(path, tmp_path, monkeypatch):
    if absent := missing(path):
        pytest.skip(f"{', '.join(absent)} is not installed: {needs(path)}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    learned, equilibrium, nash_conv = result(done.stdout)
    assert learned == equilibrium
    assert nash_conv < TOLERANCE


def test_a_result_is_read():
    assert result("learned     [5 4] NashConv 0.25\nequilibrium [5 3] (3 agent-steps/s)") == (
        "[5 4]",
        "[5 3]",
        0.25,
    )
