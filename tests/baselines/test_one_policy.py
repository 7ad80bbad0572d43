"""One policy for every market: the command, the markets that it never saw, the regression."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from baselines import one_policy
from scripts import one_policy as script

KEPT = Path(__file__).parents[2] / "baselines" / "one_policy"


def test_quick_run_writes_everything_and_trains_nothing_twice(tmp_path: Path) -> None:
    assert script.main(["--quick", "--quiet", "--out", str(tmp_path)]) == 0
    files = {p.name for p in tmp_path.iterdir()}
    tables = {"scores.csv", "bids.csv", "regression.csv", "curves.csv"}
    assert files == tables | {"README.md", "one_policy.png", "policies"}
    text = (tmp_path / "README.md").read_text()
    assert "# One policy for every market" in text
    assert not re.search(r"\bnan\b", text)
    trained = {p: p.stat().st_mtime_ns for p in (tmp_path / "policies").iterdir()}
    assert len(trained) == 2
    assert script.main(["--quick", "--quiet", "--out", str(tmp_path)]) == 0
    assert trained == {p: p.stat().st_mtime_ns for p in (tmp_path / "policies").iterdir()}
    assert (tmp_path / "README.md").read_text() == text
    scores = pd.read_csv(tmp_path / "scores.csv")
    truthful = scores[(scores.setting == "auction") & (scores.player == "truthful")]
    assert (truthful.relative_regret == 0).all()
    assert (truthful.argmax_w == 1).all()
    assert truthful.welfare_to_equilibrium.to_numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("folder", ["file/run", "file"])
def test_a_folder_that_cannot_be_written_to_is_one_line_before_training(
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(one_policy, "train_all", lambda *_: pytest.fail("trained"))
    assert script.main(["--quick", "--quiet", "--out", str(tmp_path / folder)]) == 1
    told = capsys.readouterr().err
    assert "Not a directory; name another" in told
    assert told.count("\n") == 1


def test_figure_and_page_say_how_many_markets_were_watched() -> None:
    plan = one_policy.Plan()
    scores, bids, learned = (
        pd.read_csv(KEPT / f"{name}.csv") for name in ("scores", "bids", "curves")
    )
    held = scores[(scores["set"] == "held out") & (scores.player == "one policy")]
    every = held.drop_duplicates(["benchmark", "method", "market"])
    words = f"{(every.market == 0).sum()} of the {len(every)} held-out markets"
    drawn = one_policy.figure(plan, scores, bids, learned)
    assert drawn.axes[0].get_title() == f"Learning, on {words}"
    page = (KEPT / "README.md").read_text()
    assert words in page
    command = "python -m scripts.one_policy --out baselines/one_policy"
    assert page == one_policy.report(plan, scores, bids, learned, command)
    # the curves end where the kept scores of the watched markets are
    watched = held[(held.setting == "auction") & (held.market == 0)].relative_regret.mean()
    assert f"{watched:.1%} on these" in page.replace("\n", " ")


def test_held_out_markets_are_none_of_the_published() -> None:
    found = one_policy.cases(one_policy.Plan())
    published = {c.market.quality.tobytes() for c in found if c.kind == "published"}
    held = [c for c in found if c.kind == "held out"]
    assert len({c.market.quality.tobytes() for c in held}) == len(held)
    assert not published & {c.market.quality.tobytes() for c in held}


def test_a_source_draws_no_market_twice() -> None:
    rng, draw = np.random.default_rng(0), one_policy.source("gsm8k", "majority")
    markets = [draw(rng, 1) for _ in range(300)]
    assert len({m.quality.tobytes() for m in markets}) == 300
    assert {m.num_providers for m in markets} == set(range(2, 10))


def test_regression_of_bids_on_costs() -> None:
    rng = np.random.default_rng(0)
    cost = np.exp(rng.normal(-6, 1, 400))
    bid = np.exp(0.3 + 0.9 * np.log(cost))
    bids = pd.DataFrame(
        {
            "set": "held out", "player": "one policy", "seed": 0, "place": [0, 3] * 200,
            "level": 1, "best_level": [1, 2] * 200, "cost": cost, "bid": bid,
        }
    )  # fmt: skip
    fits = one_policy.regression(bids).set_index("bidders")
    assert fits.slope.to_numpy() == pytest.approx(0.9)
    assert fits.intercept.to_numpy() == pytest.approx(0.3)
    assert fits.r2.to_numpy() == pytest.approx(1.0)
    assert fits.at_cost.to_numpy() == pytest.approx(0.0)
    assert fits.best_level["all"] == 0.5
    assert fits.best_level["first 2"] == 1.0
    assert fits.loc["first 2", "bids"] == 200


@pytest.mark.slow
def test_kept_policies_give_the_kept_scores() -> None:
    """Floats differ a little between processors, so a policy may rarely choose otherwise."""
    kept = Path(one_policy.__file__).parent / "one_policy"
    scores, _ = one_policy.score(one_policy.Plan(), kept, lambda items, _: items)
    expected = pd.read_csv(kept / "scores.csv")
    assert len(scores) == len(expected)
    for column in ("setting", "player", "set"):
        assert scores[column].tolist() == expected[column].tolist()
    for column in ("relative_regret", "welfare_to_equilibrium"):
        close = np.isclose(scores[column], expected[column], rtol=1e-4, atol=1e-6)
        assert close.mean() > 0.98
