"""`import ttc_env` loads what is used, ids work in any order of imports, and the economics needs
NumPy alone.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ttc_env

GAME = Path(__file__).parents[1] / "ttc_env/game"
BLOCKED = (
    "gymnasium",
    "matplotlib",
    "numba",
    "pandas",
    "pettingzoo",
    "scipy",
    "stable_baselines3",
    "torch",
)
# Modules that need one of these: the compiled rounds are numba's.
NEED_NUMBA = {"rules.kernels_numba", "rules.posted_price_numba", "rules.score_auction_numba"}


def run(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_no_environment_no_solver_and_no_pandas():
    unused = ("pandas", "scipy", "torch", "numba", "matplotlib", "ttc_env.envs", "ttc_env.game")
    assert run(f"import sys, ttc_env; print(*[m for m in {unused!r} if m in sys.modules])") == ""


def test_public_names_are_loaded_on_first_use_and_listed():
    names = set(ttc_env.__all__)
    assert names <= set(dir(ttc_env))
    for name in names:
        assert getattr(ttc_env, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'solver'"):
        _ = ttc_env.solver


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(ttc_env.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ttc_env._MODULE_OF
    assert sorted(seen) == ttc_env.__all__


@pytest.mark.parametrize(
    "first", ["import ttc_env, gymnasium, pettingzoo", "import pettingzoo, gymnasium, ttc_env"]
)
def test_ids_work_whichever_is_imported_first(first):
    known = (
        "'ttc_env/Provider-v0' in gymnasium.registry,"
        " 'ttc_env/Market-v0' in pettingzoo.parallel_registry,"
        " 'ttc_env/Market-v0' in pettingzoo.aec_registry"
    )
    pytest.importorskip("pettingzoo.env_registry", reason="PettingZoo before 1.27 has no ids")
    assert run(f"{first}; print({known})") == "True True True"


def test_gymnasium_finds_the_ids_by_the_modules_name():
    spec = "gymnasium.make('ttc_env:ttc_env/Provider-v0').spec.id"
    assert run(f"import gymnasium; print({spec})") == "ttc_env/Provider-v0"


def test_the_game_and_its_solvers_need_numpy_alone():
    modules = {
        path.relative_to(GAME).with_suffix("").as_posix().replace("/", ".")
        for path in GAME.rglob("*.py")
        if path.stem != "__init__"
    }
    assert modules >= NEED_NUMBA
    modules = sorted(modules - NEED_NUMBA)
    assert {"solve", "sweep", "mechanisms", "equilibrium"} <= set(modules)
    code = f"""
import importlib, sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # importing it raises ImportError
import ttc_env
for module in {modules!r}:
    importlib.import_module("ttc_env.game." + module)
market = ttc_env.Market.from_arrays(
    [[0.5, 0.9], [0.6, 0.8]], [[0.1, 0.4], [0.1, 0.2]], [[0.05, 0.2], [0.05, 0.1]], beta=5.0
)
solution = ttc_env.solve(market)
assert solution.converged and ttc_env.solve(market, "auction").converged
assert ttc_env.nash_conv(market, solution.worst) == 0.0
assert ttc_env.sweep([market], [1.0, 5.0]).welfare.shape == (1, 2)
print("solved")
"""
    assert run(code) == "solved"


def test_packaged_mechanisms_are_there_before_ones_own():
    """In a process of its own: here, other tests have imported the rules."""
    run(
        """
import ttc_env
try:
    ttc_env.register_mechanism("market", lambda prices="fixed": None)
except ValueError as error:
    assert "registered already" in str(error)
else:
    raise AssertionError("the packaged market was replaced")
"""
    )
    listed = run("import ttc_env; print(ttc_env.mechanisms())")
    for name in ("auction", "first_score", "flat_fee", "market", "taste_auction"):
        assert repr(name) in listed
