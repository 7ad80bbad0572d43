"""resample: accuracies vary as sampling over questions says, and nothing else does."""

import numpy as np
import pandas as pd
import pytest

import ttc_env
from ttc_env.game.resampling import QUESTIONS, interval


def accuracies(markets):
    return np.array([[p.curve.accuracy for p in m.providers] for m in markets])


@pytest.mark.parametrize("benchmark", ["gsm8k", "gpqa", "arc_agi_2"])
def test_mean_and_spread_are_those_of_counting_questions(benchmark):
    market = ttc_env.load_market(benchmark, providers=ttc_env.load_market(benchmark).names[:3])
    draws = 4000
    made = list(ttc_env.resample(market, draws, seed=0))
    q = QUESTIONS[benchmark]
    for i, provider in enumerate(market.providers):
        a = provider.curve.accuracy
        drawn = np.array([m.providers[i].curve.accuracy for m in made])
        assert np.allclose(drawn * q, np.round(drawn * q))
        sd = np.sqrt(a * (1 - a) / q)
        np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - a), 5 * sd / draws**0.5 + 1e-12)
        np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.08, atol=1e-12)


def own(se, accuracy=0.5):
    return pd.DataFrame(
        {"provider": ["a"], "level": [1], "accuracy": [accuracy], "tokens": [10.0]}
        | {"price_per_token": [1e-3], "se": [se]}
    )


def test_elsewhere_the_standard_error_is_used():
    market = ttc_env.load_market(own(0.1), alpha=1)
    drawn = accuracies(ttc_env.resample(market, 4000, seed=1))
    assert drawn.mean() == pytest.approx(0.5, abs=5 * 0.1 / 4000**0.5)
    assert drawn.std() == pytest.approx(0.1, rel=0.08)
    edge = accuracies(ttc_env.resample(ttc_env.load_market(own(0.5, 0.9), alpha=1), 200, seed=1))
    assert edge.min() == 0.0
    assert edge.max() == 1.0


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """A market is measured with 120 tasks; the 90% interval of the redrawn welfare covers the true
    value of the truly best choice about nine times in ten.
    """
    truth, tasks, rng = 0.3, 120, np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        seen = rng.binomial(tasks, truth) / tasks
        se = np.sqrt(seen * (1 - seen) / tasks)
        drawn = accuracies(ttc_env.resample(ttc_env.load_market(own(se, seen), alpha=1), 200, rng))
        low, high = np.quantile(drawn, [0.05, 0.95])
        covered += low <= truth <= high
    assert 0.84 <= covered / 300 <= 0.95


def test_an_interval_is_the_hull_of_quantiles_and_their_mirror_image():
    drawn = np.linspace(0.0, 1.0, 101)
    assert interval(0.5, drawn) == pytest.approx((0.05, 0.95))
    assert interval(0.2, drawn) == pytest.approx((-0.55, 0.95))
    assert interval(0.2, drawn, within=(0.0, 0.9)) == pytest.approx((0.0, 0.9))
    assert interval(2.0, drawn) == pytest.approx((0.05, 3.95))
    assert interval(0.5, np.append(drawn, np.nan)) == pytest.approx((0.05, 0.95))
    for nothing in (interval(0.5, []), interval(np.nan, drawn)):
        assert np.isnan(nothing).all()


def facts(markets):
    """Of markets of one shape: what is solved of each, `[markets]`."""
    solved, flat = ttc_env.sweep(markets), ttc_env.sweep(markets, mechanism="flat_fee")
    surplus = [np.sort(np.nanmax(m.quality - m.cost, axis=1)) for m in markets]
    return {
        "welfare": solved.welfare[:, 0],
        "optimal welfare": solved.optimal_welfare[:, 0],
        "price of anarchy": solved.price_of_anarchy[:, 0],
        "flat fee": flat.welfare[:, 0],
        "auction": np.array([w[-1] for w in surplus]),
        "users under the auction": np.array([w[-2] for w in surplus]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("game", "beta"),
    [
        (("gsm8k", "majority"), 200.0),
        (("gpqa", "majority"), 1000.0),
        (("aime", "best_of_n"), 1000.0),
    ],
)
def test_coverage_of_what_is_solved(game, beta):
    """A market is measured, solved, and given intervals; how often do these hold the true numbers?

    Solved numbers take the best of noisy ones. Quantiles alone then miss the truth nearly always
    somewhere; the hull is right about as often as it says, and at the least two times in three
    (welfare of AIME best of n, where accuracies are small and levels many).
    """
    repeats, draws = 100, 60
    true = ttc_env.load_market(*game, beta=beta)
    truth = facts([true])
    hull, quantiles = ({name: 0.0 for name in truth} for _ in range(2))
    for k, seen in enumerate(ttc_env.resample(true, repeats, 1)):
        estimate, drawn = facts([seen]), facts(list(ttc_env.resample(seen, draws, 1000 + k)))
        for name, (value,) in truth.items():
            low, high = interval(estimate[name][0], drawn[name])
            hull[name] += (low <= value <= high) / repeats
            low, high = np.quantile(drawn[name], [0.05, 0.95])
            quantiles[name] += (low <= value <= high) / repeats
    assert min(hull.values()) >= 0.65, hull
    assert np.mean(list(hull.values())) >= 0.83, hull
    assert quantiles["optimal welfare"] < 0.65, quantiles


def test_all_else_stays_and_seeds_repeat():
    market = ttc_env.load_market("arc_agi_1", as_of="2025-03", beta=1.0, margin=0.5)
    one, two = (list(ttc_env.resample(market, 3, seed=7)) for _ in range(2))
    np.testing.assert_array_equal([m.quality for m in one], [m.quality for m in two])
    assert (one[0].quality != one[1].quality).any()
    for drawn in one:
        np.testing.assert_array_equal(drawn.price, market.price)
        np.testing.assert_array_equal(drawn.cost, market.cost)
        assert (drawn.names, drawn.beta, drawn.alpha) == (market.names, 1.0, market.alpha)
        for p, q in zip(drawn.providers, market.providers, strict=True):
            a = p.curve.accuracy
            np.testing.assert_allclose(p.quality, 3.0 * (0.1 + 0.9 * a))
            np.testing.assert_array_equal(p.curve.accuracy_se, q.curve.accuracy_se)


def test_what_is_not_known_is_said_at_once():
    arrays = ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.0]], beta=1)
    with pytest.raises(ValueError, match="given as arrays"):
        ttc_env.resample(arrays, 3)
    with pytest.raises(ValueError, match="column se"):
        ttc_env.resample(ttc_env.load_market(own(0.1).drop(columns="se"), alpha=1), 3)
    for n in (-1, 2.5, True):
        with pytest.raises(ValueError, match="n is"):
            ttc_env.resample(ttc_env.load_market(), n)
    for seed in ("a", -1, True, 0.5):
        with pytest.raises(ValueError, match="seed is"):
            ttc_env.resample(ttc_env.load_market(), 3, seed=seed)
