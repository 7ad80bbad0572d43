"""Markets, solutions and sweeps as tables: rows say what the objects say; HTML is well formed."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import ttc_env
from ttc_env.game.display import MOST_ROWS, as_html


class Page(HTMLParser):
    """The texts of the cells of a page, row by row; raises where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def market():
    return ttc_env.load_market("gsm8k", beta=200)


def test_a_market_has_a_row_for_each_level_that_exists():
    market = ttc_env.Market.from_arrays(
        [[1.0, 2.0], [3.0, np.nan]],
        [[0.5, 0.6], [0.7, np.nan]],
        [[0.1, 0.2], [0.3, np.nan]],
        beta=1,
    )
    frame = market.to_frame()
    assert list(frame.provider) == ["provider_0", "provider_0", "provider_1"]
    np.testing.assert_array_equal(frame.quality, [1, 2, 3])
    np.testing.assert_allclose(frame.surplus, [0.9, 1.8, 2.7])
    assert "accuracy" not in frame
    head, first, second = Page(market._repr_html_()).rows
    assert head[0] == "provider"
    assert first[:3] == ["provider_0", "0 to 1", "1 to 2"]
    assert second[:3] == ["provider_1", "0", "3"]


def test_a_market_of_curves_has_accuracies(market):
    frame = market.to_frame()
    assert len(frame) == market.available.sum()
    np.testing.assert_array_equal(frame.accuracy, market.accuracy[market.available])


@pytest.mark.parametrize("mechanism", ttc_env.mechanisms())
def test_a_solution_lists_its_equilibria_and_the_optimum(mechanism, market):
    if mechanism == "per_character":
        pytest.skip("the published curves count no characters")
    solution = ttc_env.solve(market, mechanism)
    frame = solution.to_frame()
    told = list(frame.play.unique()) if "play" in frame else ["dominant strategies"]
    shown = frame[frame.play == "equilibrium 0"] if "play" in frame else frame
    assert len(frame) == len(told) * market.num_providers
    assert frame.share.between(0, 1).all()
    if len(solution.equilibria):
        outcome = solution.outcome
        surplus = (shown.share * (shown.quality - shown.cost)).sum()
        if len(solution.equilibria) == 1 and mechanism != "taste_auction":
            assert surplus == pytest.approx(float(outcome.welfare), rel=1e-9)
    rows = Page(solution._repr_html_()).rows
    assert [row[0] for row in rows[1:]] == list(market.names)


def test_the_best_levels_stand_beside_the_equilibrium(market):
    solution = ttc_env.solve(market)
    head, first, *_ = Page(solution._repr_html_()).rows
    frame = solution.to_frame()
    chosen = frame[frame.provider == market.names[0]].set_index("play").level
    assert float(first[head.index("level")]) == chosen["equilibrium 0"]
    assert float(first[head.index("optimal level")]) == chosen["optimum"]


def test_a_comparison_is_its_rows(market):
    compared = ttc_env.compare(market, ["market", "auction"], resamples=0)
    frame = compared.to_frame()
    assert len(frame) == len(compared.rows)
    assert list(frame.welfare) == [row["welfare"] for row in compared.rows]
    head, *rows = Page(compared._repr_html_()).rows
    assert {row[head.index("mechanism")] for row in rows} == {"market", "auction"}
    assert repr(compared).endswith(f"2 rules in {len(frame)} rows)")


def test_continuous_prices_show_both_ends():
    env = ttc_env.parallel_env(beta=200, actions="continuous")
    solution = env.solve()
    frame = solution.to_frame()
    assert list(frame.play.unique()) == ["lowest", "highest"]
    np.testing.assert_allclose(frame[frame.play == "lowest"].price, solution.lowest.price)
    ends = ((solution.lowest, "lowest"), (solution.highest, "highest"))
    for offer, play in ends:
        earned = solution.mechanism.play(offer, solution.market).utility
        np.testing.assert_allclose(frame[frame.play == play].profit, earned)
    assert "welfare" in repr(solution)
    assert len(Page(solution._repr_html_()).rows) == 19


def test_a_sweep_has_a_row_for_each_market_and_beta():
    markets = ttc_env.random_markets(3, "gsm8k", seed=0)
    swept = ttc_env.sweep(markets, [100, 200, 400])
    frame = swept.to_frame()
    assert list(frame.market) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert list(frame.beta) == [100, 200, 400] * 3
    np.testing.assert_array_equal(frame.price_of_anarchy, swept.price_of_anarchy.reshape(-1))
    assert len(Page(swept._repr_html_()).rows) == 10
    assert repr(swept).startswith("Sweep(3 markets at 3 betas")


def test_an_environment_shows_its_last_round():
    env = ttc_env.parallel_env(beta=200, prices="fixed")
    assert "before the first round" in env._repr_html_()
    with pytest.raises(RuntimeError, match="step"):
        env.to_frame()
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, 2))
    frame = env.to_frame()
    assert (frame.level == [p.levels[2] for p in env.market.providers]).all()
    np.testing.assert_array_equal(frame.share, env.last_round.share)
    assert "round 1 of 100" in env._repr_html_()
    in_turn = ttc_env.env(beta=200)
    in_turn.reset(seed=0)
    assert in_turn._repr_html_() == in_turn.unwrapped._repr_html_()


def test_long_tables_say_what_is_left_out_and_names_are_escaped():
    page = as_html("<b>", {"name": ["<i>"] * (MOST_ROWS + 3), "sure": [True] * (MOST_ROWS + 3)})
    assert len(Page(page).rows) == MOST_ROWS + 1
    assert "3 more rows" in page
    assert "<i>" not in page
    assert "<b>" not in page


def test_frames_need_pandas_and_say_so(market, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        market.to_frame()
    assert market._repr_html_()
