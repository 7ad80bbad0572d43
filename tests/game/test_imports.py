"""What importing and loading curves brings with it: NumPy and no more."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ttc_env"

# The package itself is replaced by an empty one with the same path, so that only the modules asked
# for are imported, whatever `ttc_env/__init__.py` loads.
CODE = """
import sys, types
package = types.ModuleType("ttc_env")
package.__path__ = [{path!r}]
sys.modules["ttc_env"] = package
import importlib.util
spec = importlib.util.spec_from_file_location("ttc_env", {path!r} + "/__init__.py",
                                              submodule_search_locations=[{path!r}])
package.__spec__ = spec
from ttc_env.game.curves import load_market
market = load_market("gpqa", "reasoning", beta=3.0)
assert market.quality.shape == (3, 5)
heavy = ("pandas", "scipy", "gymnasium", "pettingzoo", "matplotlib", "torch")
print(*[name for name in heavy if name in sys.modules])
"""


def test_loading_a_packaged_market_needs_numpy_alone():
    code = CODE.format(path=str(PACKAGE))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
