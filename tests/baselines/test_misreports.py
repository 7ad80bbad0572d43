"""Learners stop lying where the fine deters, and the kept tables come from the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ttc_env
from baselines import misreports
from scripts import misreports as script

ROOT = Path(__file__).parents[2]
MARKET = ttc_env.load_market(
    beta=200, providers=["Qwen2-7B", "Qwen2.5-7B", "Llama-3-8B", "Qwen2.5-3B"]
)


@pytest.mark.parametrize("rule", misreports.PLAYED)
@pytest.mark.parametrize("learner", ["best_response", "regret_matching", "epsilon_greedy"])
def test_learners_lie_below_the_frontier_and_not_above_it(learner: str, rule: str) -> None:
    found = ttc_env.deterrence(MARKET, misreports.RULES[rule][0])
    line = found.line[0]
    rounds = {"best_response": 60, "regret_matching": 800, "epsilon_greedy": 4000}[learner]
    lying = misreports.learn(
        MARKET, found.mechanism, [0.0, 0.95 * line, 1.05 * line], learner, rounds=rounds, seeds=(0,)
    )
    assert lying.shape == (3, 4)
    assert (lying[0] > 0.99).all()
    binding = found.binding()
    assert binding is not None
    assert lying[1, binding.provider] > 0.9
    assert (lying[2] < 0.01).all()


def test_fines_side_by_side_are_as_alone() -> None:
    found = ttc_env.deterrence(MARKET, "market")
    fines = [0.0, found.line[0] / 2]
    together = misreports.learn(MARKET, found.mechanism, fines, "best_response", rounds=30)
    alone = misreports.learn(MARKET, found.mechanism, fines[:1], "best_response", rounds=30)
    np.testing.assert_array_equal(together[:1], alone)


def test_where_lying_ends() -> None:
    lying = {"a": [1.0, 0.5, 0.0, 0.0], "b": [1.0, 0.0, 0.2, 0.0], "c": [1.0, 1.0, 1.0, 1.0]}
    rows = [
        ("gsm8k", "majority", "market", player, fine, share)
        for player, shares in lying.items()
        for fine, share in zip([0.0, 0.5, 1.0, 2.0], shares, strict=True)
    ]
    names = ["benchmark", "method", "rule", "player", "fine_over_frontier", "lying"]
    found = misreports.stops(pd.DataFrame(rows, columns=names)).iloc[0]
    assert (found.a, found.b) == (1.0, 2.0)
    assert np.isnan(found.c)


def test_the_kept_results_are_those_of_the_command() -> None:
    folder = ROOT / "baselines" / "misreports"
    frontier, learners = (pd.read_csv(folder / f"{x}.csv") for x in ("frontier", "learners"))
    frontier = frontier.fillna({"lie": "", "liar": ""})  # where no lie pays
    again = misreports.frontier_table(games=[("gpqa", "majority")], betas=[200.0])
    kept = frontier[
        (frontier.benchmark == "gpqa") & (frontier.method == "majority") & (frontier.beta == 200)
    ]
    pd.testing.assert_frame_equal(again, kept.reset_index(drop=True), rtol=1e-9, check_dtype=False)
    text = (folder / "README.md").read_text()
    command = "python -m scripts.misreports --out baselines/misreports"
    assert text == misreports.report(frontier, learners, command)


@pytest.mark.slow
def test_the_command_writes_everything(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert script.main(["--quick", "--quiet", "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "frontier.csv", "learners.csv", "misreports.png"}
