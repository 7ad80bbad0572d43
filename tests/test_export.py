"""Games in normal form: right in themselves, and what other libraries find in them is what is
solved here. A library that is not installed is skipped: `pip install pygambit open_spiel`, and for
alpha-rank matplotlib and networkx, which OpenSpiel imports there.
"""

import itertools

import numpy as np
import pytest

import ttc_env
from tests.variants import UNEVEN
from ttc_env.export import payoffs

NAMES = ("Qwen2-7B", "Qwen2.5-7B", "Llama-3.1-8B")
MARKET = ttc_env.load_market("gsm8k", providers=NAMES)


def equilibria(game):
    """All pure equilibria, by looking at every profile."""
    found = []
    for at in itertools.product(*map(range, game.utility.shape[1:])):
        rows = [game.utility[(j, *at[:j], slice(None), *at[j + 1 :])] for j in range(len(at))]
        if all(row[k] >= row.max() * (1 - 1e-9) for row, k in zip(rows, at, strict=True)):
            found.append(tuple(game.profile(at)))
    return found


@pytest.mark.parametrize("mechanism", ["market", "flat_fee", "auction", "taste_auction"])
def test_the_tensor_has_the_games_own_equilibria(mechanism):
    game = payoffs(MARKET, mechanism)
    solution = ttc_env.solve(MARKET, mechanism)
    assert {tuple(solution.worst)} <= set(equilibria(game))
    if mechanism in ("market", "flat_fee"):
        assert equilibria(game) == [tuple(profile) for profile in solution.equilibria]


def test_entries_are_what_an_environment_pays():
    env = ttc_env.parallel_env(market=UNEVEN, prices=(1.0, 2.0), users=10)
    game = payoffs(env)
    assert game.utility.shape == (3, 6, 2, 4)  # levels that exist, times prices
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(10):
        at = [rng.integers(size) for size in game.utility.shape[1:]]
        flat = game.profile(at)
        actions = {a: env.config.action_of(i, int(flat[i])) for i, a in enumerate(env.agents)}
        rewards = env.step(actions)[1]
        paid = [10 * game.utility[(j, *at)] for j in range(3)]
        np.testing.assert_allclose(list(rewards.values()), paid, rtol=1e-12)
    assert game.labels[1] == ("level 0, price 1", "level 0, price 2")


def test_lies_are_strategies_with_a_name():
    game = payoffs(MARKET, ttc_env.make_mechanism("auction", misreport={"over_claim": 1.25}))
    assert game.utility.shape == (3, 12, 12, 12)
    assert game.labels[0][:2] == ("level 1, truth", "level 1, over_claim 1.25")


def test_others_can_stay_in_the_market():
    market = ttc_env.load_market("gsm8k")
    worst = ttc_env.solve(market).worst
    game = payoffs(market, providers=[6, "Llama-3-8B"], rest="equilibrium")
    assert game.names == ("Qwen2-7B", "Llama-3-8B")
    assert tuple(worst) in equilibria(game)
    assert ttc_env.nash_conv(market, game.mixture([worst[6], worst[0]])) == 0.0
    # alone they play another game, whose market has two providers
    alone = payoffs(market, providers=[6, "Llama-3-8B"])
    assert alone.market.num_providers == 2
    assert (alone.utility > game.utility).all()
    held = payoffs(market, providers=[0], rest=np.zeros(9, int))
    np.testing.assert_allclose(
        held.utility[0, 3], ttc_env.solve(market).at(np.array([3, *[0] * 8])).utility[0]
    )


def test_bad_input_is_named():
    market = ttc_env.load_market("gsm8k")
    with pytest.raises(ValueError, match=r"6 x 6 .* more than max_profiles=1000"):
        payoffs(market, max_profiles=1000)
    with pytest.raises(ValueError, match="no provider 'GPT'"):
        payoffs(market, providers=["GPT"])
    with pytest.raises(ValueError, match="each once"):
        payoffs(market, providers=[0, 0])
    with pytest.raises(ValueError, match="9 flat actions"):
        payoffs(market, providers=[0], rest=[1, 2])
    with pytest.raises(ValueError, match="actions='discrete'"):
        payoffs(ttc_env.parallel_env(actions="continuous"))
    with pytest.raises(TypeError, match="a Market or an environment"):
        payoffs("gsm8k")
    with pytest.raises(ValueError, match="2 strategies for 3 players"):
        payoffs(MARKET).mixture([0, 1])
    with pytest.raises(ValueError, match="2 strategies for 3 players"):
        payoffs(MARKET).profile([0, 1])
    for no_index in (1.7, True, None, float("nan")):
        with pytest.raises(ValueError, match="there is no provider"):
            payoffs(market, providers=[no_index])
    with pytest.raises(
        ValueError, match=r"choose from .*Qwen2-7B, .* or give an index from 0 to 8"
    ):
        payoffs(market, providers=["Qwen2-7b"])
    assert payoffs(market, providers="Qwen2-7B").names == ("Qwen2-7B",)
    with pytest.raises(ValueError, match="max_profiles=nan"):
        payoffs(MARKET, max_profiles=float("nan"))


@pytest.mark.parametrize("strategy", [-1, 6, 1.5, float("nan")])
def test_a_strategy_that_does_not_exist_is_refused(strategy):
    game = payoffs(MARKET)
    for read in (game.profile, game.mixture):
        with pytest.raises(ValueError, match=r"Qwen2-7B has no strategy .* from 0 to 5"):
            read([strategy, 0, 0])


@pytest.mark.parametrize("row", [[2, 0, 0], [-1, 2, 0], [float("nan"), 1, 0], [0, 0, 0]])
def test_numbers_that_are_no_probabilities_are_refused(row):
    with pytest.raises(ValueError, match="no probabilities"):
        payoffs(MARKET).mixture([[*row, 0, 0, 0], 0, 0])


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "game.nfg"
    path.write_text("old")

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    monkeypatch.setattr("pathlib.Path.write_text", lambda self, *_, **__: full(self.open("w")))
    with pytest.raises(OSError, match="No space left"):
        payoffs(MARKET).to_nfg(path)
    assert path.read_text() == "old"


def test_nfg_lists_profiles_with_the_first_player_fastest(tmp_path):
    game = payoffs(UNEVEN, providers=[0, 2])
    text = game.to_nfg(tmp_path / "game.nfg")
    assert (tmp_path / "game.nfg").read_text() == text
    head, names, body = text.split("\n\n")
    assert head.startswith('NFG 1 R "market, own curves, beta 5')
    assert names.count('"level') == 5
    numbers = np.array(body.split(), float).reshape(2, 3, 2)  # [a_1, a_0, player]
    np.testing.assert_array_equal(numbers, np.moveaxis(game.utility, 0, -1).swapaxes(0, 1))


# These libraries warn in modules of their own.
loud = pytest.mark.filterwarnings("default")


@loud
def test_pygambit_finds_the_pure_equilibrium():
    pygambit = pytest.importorskip("pygambit")
    game = payoffs(MARKET)
    mixture = game.mixture(pygambit.nash.enumpure_solve(game.to_pygambit()).equilibria[0])
    assert tuple(mixture.argmax(axis=1)) == tuple(ttc_env.solve(MARKET).worst)
    assert ttc_env.nash_conv(MARKET, mixture) == 0.0


@loud
def test_pygambits_logit_equilibrium_is_a_fixed_point_of_our_expectations():
    pygambit = pytest.importorskip("pygambit")
    game, rate = payoffs(MARKET), 20_000.0  # 1/USD
    found = pygambit.qre.logit_solve_lambda(game.to_pygambit(), lam=[rate])
    mixture, rules = game.mixture(found[0]), game.mechanism
    expected = rules.rule.expected_utilities(mixture, rules.offers(MARKET), MARKET)
    weight = np.exp(rate * expected.amount * np.exp(expected.log_factor))
    np.testing.assert_allclose(mixture, weight / weight.sum(axis=1, keepdims=True), atol=1e-6)
    assert mixture.max() < 0.6  # it is mixed


@loud
def test_openspiels_alpha_rank_ends_in_the_equilibrium():
    pytest.importorskip("pyspiel")
    alpharank = pytest.importorskip("open_spiel.python.egt.alpharank")
    from open_spiel.python.egt import utils

    game = payoffs(MARKET)
    tables = utils.game_payoffs_array(game.to_openspiel())
    np.testing.assert_array_equal(tables, game.utility)
    ranked = alpharank.compute(list(tables / tables.max()), m=5, use_inf_alpha=True)
    joint = game.joint(ranked[2])
    at = np.unravel_index(joint.argmax(), joint.shape)
    assert tuple(game.profile(at)) == tuple(ttc_env.solve(MARKET).worst)
    assert joint.max() > 0.8


@loud
def test_openspiel_gets_a_matrix_game_of_two_players():
    pyspiel = pytest.importorskip("pyspiel")
    game = payoffs(UNEVEN, providers=[0, 2])
    theirs = game.to_openspiel()
    assert isinstance(theirs, pyspiel.MatrixGame)
    np.testing.assert_array_equal(theirs.row_utilities(), game.utility[0])
    np.testing.assert_array_equal(theirs.col_utilities(), game.utility[1])


def test_quantecon_finds_the_same_pure_equilibria():
    theory = pytest.importorskip("quantecon.game_theory")
    game = payoffs(MARKET)
    found = theory.pure_nash_brute(game.to_quantecon())
    solved = ttc_env.solve(MARKET).equilibria
    assert [tuple(game.profile(at)) for at in found] == [tuple(profile) for profile in solved]


@pytest.mark.slow  # it compiles
def test_quantecons_mixed_equilibria_leave_no_regret():
    theory = pytest.importorskip("quantecon.game_theory")
    for mechanism in ("market", "auction"):
        duel = payoffs(UNEVEN, mechanism, providers=[0, 2])
        for mixed in theory.support_enumeration(duel.to_quantecon()):
            assert ttc_env.nash_conv(duel.market, duel.mixture(mixed), mechanism) < 1e-9


def test_a_missing_library_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygambit", None)
    with pytest.raises(ImportError, match="pip install pygambit"):
        payoffs(UNEVEN).to_pygambit()


class Recorder:
    """A stand-in for a library: keeps what it is given."""

    def __init__(self, *names):
        self.given = {}
        for name in names:
            setattr(self, name, lambda *told, name=name: self.given.setdefault(name, told))


def test_other_libraries_get_the_whole_table(monkeypatch):
    """Without them installed: what they would read."""
    import sys

    theirs = Recorder("read_nfg", "create_matrix_game", "create_tensor_game")
    for name in ("pygambit", "pyspiel"):
        monkeypatch.setitem(sys.modules, name, theirs)
    duel, three = payoffs(UNEVEN, providers=[0, 2]), payoffs(UNEVEN)
    duel.to_pygambit()
    assert theirs.given["read_nfg"][0].read().decode() == duel.to_nfg()
    duel.to_openspiel()
    *_, rows, columns, first, second = theirs.given["create_matrix_game"]
    assert (tuple(rows), tuple(columns)) == duel.labels
    np.testing.assert_array_equal([first, second], duel.utility)
    three.to_openspiel()
    *_, names, tables = theirs.given["create_tensor_game"]
    assert tuple(map(tuple, names)) == three.labels
    for flat, table in zip(tables, three.utility, strict=True):  # the last player fastest
        np.testing.assert_array_equal(np.reshape(flat, table.shape), table)


class ByName(dict):
    """A mixed profile as pygambit has it: by names of players and strategies."""

    game = "theirs"


def test_profiles_come_back_in_every_form():
    game = payoffs(UNEVEN, providers=[0, 2])
    chances = [np.array([0.2, 0.3, 0.5]), np.array([0.25, 0.75])]
    expected = game.mixture(chances)
    assert expected.sum(axis=1).tolist() == [1.0, 1.0]
    named = ByName(
        {
            player: dict(zip(labels, row, strict=True))
            for player, labels, row in zip(game.names, game.labels, chances, strict=True)
        }
    )
    np.testing.assert_array_equal(game.mixture(named), expected)
    pure = game.mixture([2, 1])
    np.testing.assert_array_equal(pure.argmax(axis=1), game.profile([2, 1]))
    with pytest.raises(ValueError, match=r"provider_0 has 3 strategies; got \(2,\)"):
        game.mixture([[0.5, 0.5], chances[1]])
    joint = game.joint(np.arange(6) / 15)
    assert joint.shape == (3, 2)
    assert joint[1, 0] == 2 / 15  # the last player's strategy changes fastest
    with pytest.raises(ValueError, match="5 chances for 6 profiles"):
        game.joint(np.ones(5))
    assert repr(game).startswith("Payoffs(3 x 2 profiles of 'market', Market(")


def test_what_an_environment_decides_is_not_asked_for_again():
    with pytest.raises(ValueError, match=r"has its mechanism; give env\.unwrapped\.market"):
        payoffs(ttc_env.parallel_env(market=UNEVEN), "auction")
    with pytest.raises(ValueError, match="rest is 'nearest'; give 'equilibrium', flat actions"):
        payoffs(UNEVEN, providers=[0], rest="nearest")
