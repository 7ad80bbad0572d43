"""Imports go down only, the core stays light, and the wheel holds ttc_env alone."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part may import of ours; a part may import itself.
ALLOWED = {
    "ttc_env/game": set(),
    "ttc_env/envs": {"ttc_env.game"},
    "ttc_env/measure": {"ttc_env.game"},
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


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            yield node.module


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_down_only(part):
    own = part.replace("/", ".")
    for path in sorted((ROOT / part).rglob("*.py")):
        for name in imports(path):
            if name.split(".")[0] in OURS:
                fine = any(
                    name == other or name.startswith(other + ".") for other in (own, *ALLOWED[part])
                )
                assert fine, (
                    f"{path.relative_to(ROOT)} imports {name}; {part} may import"
                    f" {sorted(ALLOWED[part]) or 'nothing of ours'}"
                )


def test_game_knows_nothing_of_environments():
    for path in (ROOT / "ttc_env/game").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {
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
    ):
        assert needed in names
    # From the wheel, with nothing else of ours on the path, Provider-v0 works as it comes.
    elsewhere = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(elsewhere)
    code = (
        "import sys; sys.modules['agents'] = None; import ttc_env, gymnasium; print(ttc_env.__file__);"
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
