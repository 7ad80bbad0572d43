"""Best replies looked up on envelopes, against evaluating every action."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_env.game import demand
from ttc_env.game import envelope as envelope_module
from ttc_env.game.envelope import AuctionEnvelope, PostedEnvelope
from ttc_env.game.regret import TIE, compare
from ttc_env.game.rules import posted_price_python
from ttc_env.game.rules.base import Users
from ttc_env.game.rules.posted_price import Attraction
from ttc_env.game.rules.score_auction import best_rival, second_price_auction
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Market

BETAS = [0.0, 1e-3, 1.0, 100.0, 1e4, 1e5, 1e7]
SIGNS = ["any", "losing", "idle at best", "tiny"]


def tables(rng, n, g, a, tenths):
    """Two tables `[n, G, a]` with the same gaps in them, often with ties and duplicate actions."""
    draw = (
        (lambda: rng.integers(-5, 6, (n, g, a)) / 10)
        if tenths
        else (lambda: rng.normal(size=(n, g, a)) * 0.3)
    )
    gone = rng.random((n, g, a)) < 0.2
    gone[:, :, rng.integers(a)] = False
    return (np.where(gone, np.nan, draw()) for _ in range(2))


def signed(rng, profit, signs):
    if signs == "losing":
        return -np.abs(profit) - 0.01
    if signs == "idle at best":
        return np.minimum(profit, 0.0)
    return profit * 10.0 ** rng.integers(-15, 1, profit.shape) if signs == "tiny" else profit


def compared(profit, log_share, own_profit, own_log_share, resolution=0.0):
    """`compare` of `[n, b, c]` candidates: best utility's logarithm and sign, regret and relative
    regret.
    """
    rows = [x.reshape(-1, x.shape[-1]) for x in (profit, log_share)]
    own = own_profit.reshape(-1), own_log_share.reshape(-1)
    best, regret, relative = compare(*rows, *own, resolution)
    at = np.arange(len(best)), best
    return rows[0][at], rows[1][at], regret, relative


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 4),
    a=st.integers(1, 12),
    tenths=st.booleans(),
    signs=st.sampled_from(SIGNS),
)
def test_posted_prices_against_every_action(seed, n, a, tenths, signs):
    rng = np.random.default_rng(seed)
    g = 3
    value, profit = tables(rng, n, g, a, tenths)
    profit = signed(rng, profit, signs)
    beta, outside = rng.choice(BETAS, g), rng.choice([0.0, 0.1, 0.3], g)
    played = np.nan_to_num(value)[:, :, rng.integers(a)]
    rivals = Attraction(*demand.best_rivals(played, beta, outside))
    few = PostedEnvelope.of(value, profit, beta, outside).replies(rivals, beta, outside)
    there = ~np.isnan(value)
    z = demand.logits(np.where(there, value, 0.0), beta[:, None], rivals.reference[:, :, None])
    every = (
        profit,
        np.where(there, demand.log_share_against(z, rivals.log_rivals[:, :, None]), np.nan),
    )
    own_at = there.argmax(axis=2)[:, :, None]
    own = [np.take_along_axis(x, own_at, 2)[:, :, 0] for x in every]
    (pi, log_share, regret, relative), (true_pi, true_log_share, true_regret, true_relative) = (
        compared(*x, *own) for x in (few, every)
    )
    np.testing.assert_array_equal(np.sign(pi), np.sign(true_pi))
    earns = pi != 0
    # As far as logarithms of this size are known.
    np.testing.assert_allclose(
        np.log(np.abs(pi[earns])) + log_share[earns],
        np.log(np.abs(true_pi[earns])) + true_log_share[earns],
        rtol=4e-16,
        atol=2e-14,
    )
    np.testing.assert_allclose(
        regret, true_regret, rtol=1e-12, atol=1e-15 * np.nanmax(np.abs(profit))
    )
    np.testing.assert_allclose(relative, true_relative, rtol=1e-12, atol=1e-12 + 4e-16 * beta.max())


@pytest.mark.parametrize("beta", [1e-3, 100.0, 1e5, 1e7])
@pytest.mark.parametrize("sign", [1, -1], ids=["earning", "losing"])
def test_where_two_pieces_meet(beta, sign):
    """Rivals are put on the crossings themselves, where rounding decides on which side they fall:
    the best of all actions is found.
    """
    rng = np.random.default_rng(0)
    width = np.array([1e-9, 1e-6, 1e-3, 1.0])[np.arange(40) % 4][:, None]  # of the values on offer
    value, size = np.sort(rng.uniform(0.0, 1.0, (2, 1, 40, 20)))
    value, size = 0.5 + value * width, -size * np.minimum(0.5 * beta * width, 3.0)
    profit = sign * np.exp(size)
    users = np.full(40, beta), np.zeros(40)
    envelope = PostedEnvelope.of(value, profit, *users)
    crossings = envelope.start[1:]
    reference = np.full((1, 40), 0.5)
    assert np.isfinite(crossings).sum() > 30
    for start in crossings:
        start = np.where(np.isfinite(start), start, 0.0)
        for nudge in (-4e-16, 0.0, 4e-16):
            rivals = Attraction(start * (1.0 + nudge) - demand.logits(reference, *users), reference)
            few = envelope.replies(rivals, *users)
            every = (
                profit,
                demand.log_share_against(
                    demand.logits(value, beta, 0.5), rivals.log_rivals[:, :, None]
                ),
            )
            best, expected = (sign * (np.log(np.abs(x)) + y) for x, y in (few, every))
            np.testing.assert_allclose(
                best.max(axis=2), expected.max(axis=2), rtol=4e-16, atol=1e-14
            )


@pytest.mark.parametrize("sign", [1, -1], ids=["earning", "losing"])
def test_plain_python_looks_at_both_pieces_where_two_meet(sign):
    """Within `slack` of a crossing the better of two replies is taken, as in arrays."""
    rng, near = np.random.default_rng(1), 0
    for _ in range(30):
        value, size = np.sort(rng.uniform(0.0, 1.0, (2, 6)))
        profit, beta = sign * np.exp(-3.0 * size), 5.0
        envelope = PostedEnvelope.of(value[None, None], profit[None, None], [beta], [0.0])
        for start in envelope.start[1:, 0, 0]:
            if not 0.1 < start < 20.0:
                continue
            for nudge in (-0.9 * envelope.slack[0, 0], 0.0, 0.9 * envelope.slack[0, 0]):
                rival = np.log(np.expm1(start + nudge)) / beta  # 1 + e = A_-i
                values = np.array([value, np.full(6, rival)])
                profits = np.array([profit, np.full(6, 0.5)])
                cost = 2.0 - profits
                offer = Offer(values + 2.0, values + 2.0, np.full((2, 6), 2.0), cost)
                users = Users(beta, 0.0)
                both = PostedEnvelope.of(values[:, None], profits[:, None], [beta], [0.0])
                infos = posted_price_python.infos_of(offer, both, users)
                for own in range(6):
                    played = [[float(x[0, own]), float(x[1, 0])] for x in infos.columns]
                    relative = infos.play(*played).relative[0]
                    z = beta * (value - rival) if rival > 0 else beta * value
                    rest = 1.0 + np.exp(-beta * rival) if rival > 0 else 1.0 + np.exp(beta * rival)
                    log_u = np.log(np.abs(profit)) - np.log1p(rest * np.exp(-z))
                    if sign > 0:
                        expected = -np.expm1(log_u[own] - log_u.max())
                        assert relative == pytest.approx(expected, abs=1e-14)
                        near += 0 < expected < 1e-8
                    else:
                        assert relative == float(log_u[own] - log_u.min() > TIE)
    assert sign < 0 or near > 20


def test_pieces_follow_the_other_way_for_losers():
    """By hand: e = 1 and 2 (beta = 1, V = 0 and log 2), |pi| = 3 and 2: the lines cross at A_-i =
    (3/2 - 1) / (1 - 3/4) = 2.
    """
    value = np.array([[[0.0, np.log(2.0)]]])
    for sign in (1.0, -1.0):
        envelope = PostedEnvelope.of(
            value, sign * np.array([[[3.0, 2.0]]]), np.ones(1), np.zeros(1)
        )
        np.testing.assert_allclose(envelope.start[:, 0, 0], [-np.inf, np.log(2.0)], rtol=1e-15)
        np.testing.assert_array_equal(
            envelope.profit[:, 0, 0], [3.0, 2.0] if sign > 0 else [-2.0, -3.0]
        )


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 4),
    a=st.integers(1, 8),
    tenths=st.booleans(),
    outside=st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    shift=st.sampled_from([-1.0, 0.0, 0.3]),
)
def test_auctions_against_every_action(seed, n, a, tenths, outside, shift):
    """Ties at the top, scores at V_0, providers that can only lose (shift < 0):
    `Mechanism.deviations` tries every action.
    """
    rng = np.random.default_rng(seed)
    g = 3
    score, worth = tables(rng, n, g, a, tenths)
    worth = worth + shift
    there = ~np.isnan(score)
    resolution = 1e-13
    one = second_price_auction()
    envelope = AuctionEnvelope.of(score, worth)
    at = there.argmax(axis=2)[:, :, None]
    played, own_worth = (np.take_along_axis(x, at, 2)[:, :, 0] for x in (score, worth))
    market = Market.from_arrays([[1.0]], [[0.0]], [[0.0]], beta=1.0, outside_value=outside)
    rivals = best_rival(played)
    few = envelope.replies(rivals, np.full(g, outside))
    zero = np.zeros_like(worth)
    mine = ExactScore(Offer(own_worth, own_worth, own_worth - played, zero[..., 0]), played)
    own_log_share = one.rule.log_share(mine, rivals, market)
    own_profit = np.where(
        own_log_share > -np.inf, own_worth - np.maximum(rivals.score, outside), 0.0
    )
    # a quality of omega at no cost, offered at a price that makes the score
    table = Offer(worth, worth, worth - score, zero)
    for j in range(g):
        exact = ExactScore(table.map(lambda x, j=j: x[:, j]), score[:, j])
        mine = Offer(own_worth[:, j], own_worth[:, j], (own_worth - played)[:, j], zero[:, j, 0])
        every = one.deviations(exact, ExactScore(mine, played[:, j]), market)
        found, expected = (
            compared(
                *(x[:, None] if x.ndim == 2 else x[:, j : j + 1] for x in replies),
                own_profit[:, j],
                own_log_share[:, j],
                resolution,
            )
            for replies in (few, every)
        )
        for x, y in zip(
            (found[0] * np.exp(found[1]), *found[2:]),
            (expected[0] * np.exp(expected[1]), *expected[2:]),
            strict=True,
        ):
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)


class ExactScore(Offer):
    """An offer with its score as given, where claim - price would round it."""

    def __init__(self, offer, score):
        super().__init__(offer.quality, offer.seen, offer.price, offer.cost)
        object.__setattr__(self, "_score", score)

    @property
    def score(self):
        return self._score

    def map(self, function):
        return ExactScore(super().map(function), function(self._score))


def test_the_staircase_by_hand():
    """Scores 1, 2, 3, 4 worth 5, 7, 6, 2: the second is worth more than the first and beats it; the
    lowest stays for ties of losers.
    """
    envelope = AuctionEnvelope.of(
        np.array([[[3.0, 1.0, 4.0, 2.0, np.nan]]]), np.array([[[6.0, 5.0, 2.0, 7.0, np.nan]]])
    )
    np.testing.assert_array_equal(envelope.score[:, 0, 0], [1, 2, 3, 4, np.inf])
    np.testing.assert_array_equal(envelope.above[:, 0, 0], [7, 7, 6, 2, -np.inf])


@pytest.mark.parametrize("entries", [1, 7, 40])
def test_envelopes_do_not_depend_on_how_many_rows_are_worked_on_at_a_time(entries, monkeypatch):
    """Blocks hold envelopes of different lengths, which are filled up when they are joined."""
    rng = np.random.default_rng(0)
    value, profit = tables(rng, 3, 4, 9, tenths=False)
    profit = np.where(np.isnan(value), np.nan, rng.normal(size=value.shape))
    beta = np.array([0.0, 1.0, 10.0, 1e4])

    def made():
        return (
            PostedEnvelope.of(value, profit, beta, np.zeros(4)),
            AuctionEnvelope.of(value, profit),
        )

    whole = made()
    monkeypatch.setattr(envelope_module, "_BLOCK", entries)
    for one, other in zip(whole, made(), strict=True):
        for field in dataclasses.fields(one):
            x, y = (getattr(which, field.name) for which in (one, other))
            if field.name in ("value", "profit"):  # of pieces that are not used anything may stand
                x, y = (np.where(one.start < np.inf, table, 0.0) for table in (x, y))
            np.testing.assert_array_equal(x, y, err_msg=field.name)
