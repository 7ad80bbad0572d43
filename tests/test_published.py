"""The published games: print is met, theory's order holds in every cell, and play ends where the
solver says.
"""

import numpy as np
import pandas as pd
import pytest

import ttc_env
from baselines import published
from ttc_env.game.curves import STUDIED_BETAS, published_curves


@pytest.fixture(scope="module")
def cells():
    return published.solve_cells()


def test_every_printed_entry_is_met_to_the_last_digit_but_four(cells):
    table = published.comparison(cells)
    printed = table[table.printed != ""]
    assert len(printed) == 288
    names = printed.quantity.isin(["winner", "runner_up"])
    numbers = printed[~names]
    rounds = numbers.computed.map(lambda x: f"{x:.5f}") == numbers.printed
    missed = numbers[~rounds]
    keys = {tuple(row) for row in missed[["benchmark", "method", "beta", "quantity"]].to_numpy()}
    assert keys == published.UNDERFLOW | published.DIGITISED
    assert (missed.note != "").all()
    assert (numbers[rounds].note == "").all()
    assert (printed[names].computed == printed[names].printed).all()


def test_two_roundings_are_within_the_digitisation_and_the_rule_is_wider_for_nobody_else(cells):
    table = published.comparison(cells)
    edge = table[table.note.str.contains("rounding edge")]
    past = (edge.computed.astype(float) - edge.printed.astype(float)).abs() - 5e-6
    np.testing.assert_allclose(sorted(past), [2e-7, 4e-7], atol=6e-8)
    curves = published_curves().query("benchmark == 'gpqa' and method == 'reasoning'")
    error = curves.uncertainty_accuracy.max() * 0.02 * 0.9
    assert past.max() < published.DIGITISATION_ERROR
    assert pytest.approx(error, rel=0.02) == published.DIGITISATION_ERROR


def test_a_number_that_differs_is_called_so(cells, monkeypatch):
    monkeypatch.setattr(published, "DIGITISED", set())
    table = published.comparison(cells)
    assert (table.note == "differs from print").sum() == 2


def test_all_nine_games_and_every_quantity_are_in_the_table(cells):
    table = published.comparison(cells)
    assert list(table.columns[:6]) == [
        "benchmark",
        "method",
        "beta",
        "quantity",
        "computed",
        "printed",
    ]
    assert len(table) == 9 * (3 * 8 + 8)
    assert (table.printed != "").all()


def test_equilibria_are_unique_and_play_ends_there(cells):
    for cell in cells:
        solution = cell.gain.market
        assert solution.unique
        assert solution.complete
        assert solution.converged
        assert cell.agrees


def test_welfare_is_in_the_order_that_theory_says(cells):
    for cell in cells:
        gain = cell.gain
        # W_A >= W* >= W(PNE), up to rounding where two of them coincide.
        assert gain.choice >= -1e-15
        assert gain.compute >= -1e-15
        assert gain.total == pytest.approx(gain.compute + gain.choice, abs=1e-15)
        assert gain.total == pytest.approx(gain.users + gain.winner + gain.others, abs=1e-15)


def test_users_lose_by_the_auction_in_ten_cells(cells):
    # GAME.md; as the printed tables have it
    assert int((published.summary(cells).gain_users < 0).sum()) == 10


def test_sweep_agrees_with_the_cells(cells):
    sweep = published.beta_sweep(np.array(STUDIED_BETAS)).set_index(["benchmark", "method", "beta"])
    for cell in cells:
        row = sweep.loc[(cell.benchmark, cell.method, cell.beta)]
        assert row.equilibrium_welfare == cell.gain.market.welfare
        assert row.optimal_welfare == cell.gain.market.optimal_welfare


def test_the_papers_dynamics_climb_the_potential_to_the_equilibrium():
    for beta in STUDIED_BETAS:
        market = ttc_env.load_market("aime", "reasoning", beta=beta)
        for seed in range(5):
            run = published.trajectory(market, seed)
            assert run.path.converged
            assert (np.diff(run.path.potential) > 0).all()
            np.testing.assert_array_equal(run.path.profiles[-1], ttc_env.solve(market).worst)


def test_reproduce_writes_everything(tmp_path):
    pytest.importorskip("matplotlib")
    from scripts.reproduce import main

    assert main(["--out", str(tmp_path), "--betas", "3", "--quiet"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    figures = {"headline.png", "curves.png", "dynamics.png", "inefficiency.png", "gains.png"}
    assert names == {
        "table.csv",
        "summary.csv",
        "sweep.csv",
        "manifest.json",
        "README.md",
        *figures,
    }
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert len(table) == 288
    report = (tmp_path / "README.md").read_text()
    assert "284 of 288" in report
    for name in figures:
        assert name in report
