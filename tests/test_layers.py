"""Imports go down only, the core stays light, and the wheel holds ttc_env alone."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part may import of ours; a part may import itself.
ALLOWED = {
    "ttc_env": set(),
    "ttc_env/game": set(),
    "ttc_env/envs": {"ttc_env.game"},
    "ttc_env/measure": {"ttc_env.game", "ttc_env.atomic", "ttc_env.settings"},
    "agents": {"ttc_env"},
    "baselines": {"ttc_env", "agents"},
    "scripts": {"ttc_env", "agents", "baselines"},
}
OURS = ("ttc_env", "agents", "baselines", "scripts", "tests")
# Extras, each of which only named files may import at module level.
HEAVY = (
    "torch",
    "stable_baselines3",
    "matplotlib",
    "datasets",
    "vllm",
    "transformers",
    "math_verify",
    "tensorboard",
    "numba",
    "tqdm",
)


def imports(tree, where=""):
    """Every module that is imported: at the top, late (in a function), by name, or by an entry
    point, which is a text like "agents.base:Agent".
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import; name the module in full"
            yield node.module
        elif isinstance(node, ast.Call):
            function = node.func
            called = getattr(function, "attr", getattr(function, "id", ""))
            if called in ("import_module", "__import__", "find_spec", "run_module"):
                for argument in node.args[:1]:
                    if isinstance(argument, ast.Constant):
                        yield argument.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            entry = re.fullmatch(rf"((?:{'|'.join(OURS)})(?:\.\w+)*):\w+", node.value)
            if entry:
                yield entry.group(1)


def imports_of(path):
    return imports(ast.parse(path.read_text()), str(path))


def is_allowed(part, name):
    """Whether a file of `part` may import the module `name`."""
    if name.split(".")[0] not in OURS:
        return True
    own = part.replace("/", ".")
    return any(name == other or name.startswith(other + ".") for other in (own, *ALLOWED[part]))


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_down_only(part):
    for path in sorted((ROOT / part).rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for name in imports_of(path):
            assert is_allowed(part, name), (
                f"{file} imports {name}; {part} may import"
                f" {sorted(ALLOWED[part]) or 'nothing else of ours'}"
            )


def test_late_imports_count_as_well():
    for code in (
        "import ttc_env.envs.market",
        "def late():\n    from ttc_env.envs import market",
        "def late():\n    return importlib.import_module('agents.base')",
        "register('x', entry_point='agents.base:Agent')",
        "from ttc_env import solve",
    ):
        found = list(imports(ast.parse(code)))
        assert len(found) == 1
        assert not is_allowed("ttc_env/game", found[0])
    assert is_allowed("ttc_env/game", "ttc_env.game.types")
    assert is_allowed("ttc_env/game", "numpy")


def test_game_knows_nothing_of_environments():
    for path in (ROOT / "ttc_env/game").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & {
            "gymnasium",
            "pettingzoo",
        }, path


def test_importing_the_core_is_light_and_silent():
    code = (
        "import random, sys, numpy; before = (random.getstate(),"
        " numpy.random.get_state()[1].sum()); import ttc_env; assert (random.getstate(),"
        f" numpy.random.get_state()[1].sum()) == before; print(*[name for name in {HEAVY!r} if name"
        " in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
    assert run.stderr == ""


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_data_alone(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            tmp_path,
            ROOT,
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"ttc_env"}
    for needed in (
        "ttc_env/py.typed",
        "ttc_env/data/published_curves.csv",
        "ttc_env/data/SOURCES.md",
        "ttc_env/report/charts.js",
        "ttc_env/report/page.css",
    ):
        assert needed in names
    # From the wheel, with nothing else of ours on the path, Provider-v0 works as it comes.
    elsewhere = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(elsewhere)
    code = (
        "import sys; sys.modules['agents'] = None; import ttc_env, gymnasium;"
        " print(ttc_env.__file__);"
        " env = gymnasium.make('ttc_env/Provider-v0'); env.reset(seed=0);"
        " env.step(env.action_space.sample())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(elsewhere)},
    )
    assert run.stdout.startswith(str(elsewhere))


# Where rules are made by name; everywhere else a rule is asked, not looked at.
MAKERS = ("ttc_env/game/mechanisms.py",)


def of_rules():
    """The names of all rules and tariffs, and of what they summarise rivals by."""
    names = set()
    for file in (ROOT / "ttc_env/game/tariffs.py", *(ROOT / "ttc_env/game/rules").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {getattr(base, "id", "") for base in node.bases}
                if bases & {"Rule", "Tariff"}:
                    names.add(node.name)
    return names


def test_nobody_asks_which_rule_it_is():
    """Outside a rule's own file: no `isinstance` on rules or tariffs, no type of them compared, no
    mechanism compared by name.
    """
    rules = of_rules()
    assert {"PostedPrice", "SecondScore", "PerToken", "CostPlus"} <= rules
    asked = []
    for file in (ROOT / "ttc_env").rglob("*.py"):
        where = file.relative_to(ROOT).as_posix()
        if where.startswith("ttc_env/game/rules/") or where in MAKERS:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            words = {getattr(x, "id", getattr(x, "attr", "")) for x in ast.walk(node)}
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                if words & rules:
                    asked.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.Compare):
                by_name = "mechanism" in words and words & {"name", "kind"}
                if by_name or (words & rules and "type" in words):
                    asked.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.Attribute) and node.attr in ("posts_prices", "settlement"):
                asked.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    assert not asked, "ask the rule instead: " + "; ".join(asked)
