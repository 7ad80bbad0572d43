"""The README's Python runs and prints what the README says."""

import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import get_type_hints

import pettingzoo
import pytest

import ttc_env
from ttc_env.envs.config import make_config
from ttc_env.envs.options import GameOptions
from ttc_env.registration import PETTINGZOO_IDS

README = (Path(__file__).parents[1] / "README.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code, shown", BLOCKS, ids=["one game", "a moving world", "many games"])
def test_python_blocks_print_what_is_shown(code, shown):
    assert 5 <= len(code.strip().splitlines()) <= 14
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown


def test_every_id_is_in_the_table_and_can_be_made():
    assert set(re.findall(r"^\| `(ttc_env/\S+-v\d+)`", README, flags=re.MULTILINE)) >= set(
        PETTINGZOO_IDS
    )
    if not hasattr(pettingzoo, "make"):
        pytest.skip("PettingZoo before 1.27 has no ids")
    for name in PETTINGZOO_IDS:
        for kind in ("parallel", "aec"):
            assert len(pettingzoo.make(kind, name).possible_agents) == 9


def test_every_option_is_documented():
    names = [name for name in inspect.signature(make_config).parameters if name != "options"]
    names += get_type_hints(GameOptions)
    for name in names:
        assert f"`{name}`" in README, f"README does not name the option {name}"
        assert f"`{name}`" in ttc_env.MarketEnv.__doc__, (
            f"MarketEnv's docstring does not name the option {name}"
        )


def test_links_to_files_exist():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (root / target).exists(), target
