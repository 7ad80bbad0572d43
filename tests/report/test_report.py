"""Pages are one file that asks the network for nothing, and show the solver's numbers."""

import csv
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import ttc_env
from ttc_env import cli
from ttc_env.game.curves import packaged_markets
from ttc_env.game.dynamics import best_response_dynamics
from ttc_env.report import comparison
from ttc_env.report.facts import TITLES, catalogue, explore, facts, market_of
from ttc_env.report.pages import comparison_page, embedded, market_page

MARKETS = {
    "gsm8k": {"beta": 200.0},
    "aime": {"method": "reasoning"},
    "arc_agi_2": {"as_of": "2026-06"},  # 52 providers, levels of different numbers
}


def market(name):
    return ttc_env.load_market(name, **MARKETS[name])


class Elements(HTMLParser):
    """Tags that open and close, and every address that one names."""

    void = frozenset({"meta", "link", "input", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.facts, self.ids = [], [], "", []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.addresses += [named[x] for x in ("src", "href", "action", "data") if x in named]
        self.ids += [named["id"]] if "id" in named else []
        if tag not in self.void:
            self.open.append((tag, named.get("id")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", "facts"):
            self.facts += data


def read(page):
    parsed = Elements()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    return parsed


def assert_self_contained(page):
    parsed = read(page)
    assert page.startswith("<!DOCTYPE html>")
    assert all(address.startswith("data:") for address in parsed.addresses)
    # The name of SVG's elements is an address by its form; nothing is fetched from it.
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|\bfetch\(|XMLHttpRequest|import\(", page)
    assert len(page.encode()) < 5e6
    return json.loads(parsed.facts)


@pytest.mark.parametrize("name", MARKETS)
def test_a_markets_page_is_one_file_with_the_solvers_numbers(name):
    shown = assert_self_contained(market_page(market(name)))
    solution = ttc_env.solve(market(name))
    assert shown["equilibrium"]["welfare"] == solution.welfare
    assert shown["equilibrium"]["users"] == solution.user_value
    assert shown["equilibrium"]["level"] == solution.worst.tolist()
    assert shown["equilibrium"]["share"] == solution.shares.tolist()
    assert shown["equilibrium"]["profit"] == solution.provider_profit.tolist()
    assert shown["optimum"]["welfare"] == solution.optimal_welfare
    assert shown["optimum"]["level"] == solution.optimum.tolist()
    assert (shown["unique"], shown["complete"]) == (solution.unique, solution.complete)
    for row in shown["rules"]:
        if not row["note"]:
            other = ttc_env.solve(market(name), row["mechanism"])
            assert row["welfare"] == pytest.approx(other.welfare, rel=1e-14)
            assert row["users"] == pytest.approx(other.user_value, rel=1e-14)
            assert row["welfare"] <= shown["first_best"] * (1 + 1e-12)


def test_the_curve_against_beta_is_the_sweeps_and_has_the_chosen_beta():
    shown = facts(market("gsm8k"))["inefficiency"]
    assert 200.0 in shown["beta"]
    assert shown["beta"] == sorted(shown["beta"])
    swept = ttc_env.sweep(market("gsm8k"), shown["beta"]).inefficiency[0]
    assert shown["percent"] == swept.tolist()


def test_play_ends_at_the_equilibrium_and_its_money_adds_up():
    shown = facts(market("gsm8k"))
    play = shown["play"]
    assert play["level"][-1] == shown["equilibrium"]["level"]
    assert play["welfare"][-1] == pytest.approx(shown["equilibrium"]["welfare"], rel=1e-14)
    assert np.all(np.diff(play["potential"]) > 0)
    path = best_response_dynamics(ttc_env.solve(market("gsm8k")).game, record="moves")
    assert play["level"] == path.profiles.tolist()
    total = np.add(play["users"], play["providers"])
    np.testing.assert_allclose(total, play["welfare"], rtol=1e-13)


def test_the_regret_map_is_what_relative_regret_says_of_every_single_move():
    shown = facts(market("gsm8k"))
    worst = ttc_env.solve(market("gsm8k")).worst
    for i in range(9):
        assert shown["regret"][i][shown["equilibrium"]["level"][i]] == 0.0
        for k in range(6):
            moved = worst.copy()
            moved[i] = k
            said = ttc_env.relative_regret(market("gsm8k"), moved)[i]
            assert shown["regret"][i][k] == pytest.approx(said, abs=1e-15)


def test_every_rule_has_a_page_of_its_own():
    shown = facts(market("gsm8k"), "auction")
    assert shown["play"] is None
    assert shown["inefficiency"] is None
    assert "almost nothing is lost" in shown["headline"]
    for name in ttc_env.mechanisms():
        if name != "per_character":  # these curves have none
            page = market_page(market("gsm8k"), name)
            assert_self_contained(page)


def test_a_game_without_an_equilibrium_says_so():
    """Two sellers who would rather pay than serve, and one of them is never at rest: taken from a
    rule of its own, since posted prices always have an equilibrium.
    """
    from typing import NamedTuple

    from ttc_env.game.arrays import array_module
    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.tariffs import PerToken

    class Others(NamedTuple):
        price: object

    class Chase(ttc_env.Rule):
        """The first serves everybody if prices agree, the second if they do not."""

        def rivals(self, offer, users):
            return Others(offer.price[::-1])

        def log_share(self, offer, rivals, users):
            xp = array_module(offer.price)
            same = offer.price == rivals.price
            first = xp.arange(len(offer.price)).reshape(-1, *(1,) * (offer.price.ndim - 1)) == 0
            return xp.log(xp.where(same == first, 0.8, 0.1))

        def payment(self, offer, rivals, users):
            return offer.price

    two = ttc_env.Market.from_arrays(
        [[1.0, 1.0]] * 2, [[0.2, 0.21]] * 2, [[0.1, 0.1]] * 2, beta=1.0
    )
    shown = facts(two, Mechanism("chase", PerToken((1.0,)), Chase()))
    assert shown["equilibrium"] is None
    assert "no stable outcome" in shown["headline"]
    assert_self_contained(market_page(two, Mechanism("chase", PerToken((1.0,)), Chase())))


def test_arrays_without_curves_have_a_page_too():
    small = ttc_env.Market.from_arrays(
        [[0.5, 0.9], [0.6, 0.8]], [[0.1, 0.4], [0.1, 0.2]], [[0.05, 0.2], [0.05, 0.1]], beta=5.0
    )
    assert assert_self_contained(market_page(small))["setting"]["title"] == "Own curves"


def test_nothing_in_a_name_can_end_the_script():
    evil = "</script><script>alert(1)</script>"
    named = ttc_env.Market.from_arrays(
        [[0.5], [0.6]], [[0.1], [0.1]], [[0.05], [0.05]], beta=5.0, names=[evil, "b"]
    )
    page = market_page(named)
    assert "<script>alert" not in page
    assert json.loads(read(page).facts)["providers"][0]["name"] == evil
    assert "<" not in embedded(["<!--", evil])


def test_the_explorers_settings_are_load_markets(tmp_path):
    options = {"benchmark": "gpqa", "method": "best_of_n", "beta": 300.0, "alpha": 0.03}
    plain = ttc_env.load_market("gpqa", "best_of_n", beta=300.0, alpha=0.03, margin=0.5)
    kept = list(plain.names[2:5])
    made = market_of({**options, "margin": 0.5, "providers": kept})
    assert made.names == plain.names[2:5]
    np.testing.assert_array_equal(made.cost, plain.cost[2:5])
    shown = explore({**options, "margin": 0.5, "providers": kept})
    assert shown["sellers"] == list(plain.names)
    assert [p["name"] for p in shown["providers"]] == kept
    text = (
        "provider,level,accuracy,tokens,price_per_token\none,1,0.5,100,1e-6\none,2,0.7,200,1e-6\n"
    )
    own = market_of({"curves": text, "file": "../mine.csv", "alpha": 0.01})
    assert own.names == ("one",)
    with pytest.raises(ValueError, match=r"mine\.csv.*alpha"):
        market_of({"curves": text, "file": "mine.csv"})


def test_the_catalogue_names_markets_that_exist():
    known = catalogue()
    packaged = packaged_markets()
    assert len(known["markets"]) == sum(map(len, packaged.values())) >= 18
    assert {row["title"].split(",")[0] for row in known["markets"]} == {TITLES[x] for x in packaged}
    for row in known["markets"]:
        assert ttc_env.load_market(row["benchmark"], row["method"]).beta == row["beta"]
    names = [row["mechanism"] for row in known["rules"]]
    assert names[0] == "market"
    assert sorted(names) == sorted(ttc_env.mechanisms())


def write_table(folder, *, drop=(), **changes):
    """A table as `ttc-env compare` writes it."""
    row = {
        "mechanism": "market", "options": "", "prices": "neutral", "reading": "without tastes",
        "played_by": "equilibrium", "welfare": 4.9, "first_best": 7.3, "efficiency": 0.67,
        "user_value": 4.6, "provider_profit": 0.3, "tokens": "", "overcompute": 2.7,
        "lost_to_compute": 0.9, "lost_to_choice": 1.2, "lost_to_exclusion": 0.3,
        "audit_gain": 0.04, "certificate": "exact", "welfare_low": 4.8, "welfare_high": 5.0,
    }  # fmt: skip
    lines = [
        row,
        row | {"played_by": "hedge", "welfare": 5.1},
        row | {"mechanism": "auction", "welfare": 7.3, "user_value": 7.1, "provider_profit": 0.2}
        | dict.fromkeys(comparison.LOSSES, 0.0),
        row | {"reading": "with tastes", "welfare": 99.0},
        row | {"played_by": "own optimum", "welfare": 6.0},
    ]  # fmt: skip
    lines[0] = lines[0] | changes
    folder.mkdir(exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [name for name in row if name not in drop], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(lines)


def test_a_comparisons_page_has_the_tables_numbers(tmp_path):
    write_table(tmp_path / "gsm8k")
    shown = assert_self_contained(comparison_page(tmp_path / "gsm8k"))
    (block,) = shown["blocks"]
    assert [row["rule"] for row in block["rows"]] == ["Pay per token", "Second-score auction"]
    assert block["rows"][0]["welfare"] == 4.9
    assert block["rows"][0]["tokens"] is None
    assert block["rows"][0]["learners"][0]["welfare"] == 5.1
    assert shown["headline"].startswith("Second-score auction leaves users the most: 7.1 of 7.3")
    assert "33% of the possible value is lost" in shown["detail"]


def test_only_the_columns_that_are_shown_are_needed(tmp_path):
    write_table(tmp_path, drop=("options", "prices", "welfare_low", "welfare_high"))
    assert len(comparison.read(tmp_path)["blocks"]) == 1


def test_a_folder_without_a_comparison_is_refused(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="ttc-env compare"):
        comparison.read(tmp_path)
    write_table(tmp_path, drop=("welfare",))
    with pytest.raises(ValueError, match="no column welfare"):
        comparison.read(tmp_path)
    write_table(tmp_path, welfare="much")
    with pytest.raises(ValueError, match="welfare of market is 'much'"):
        comparison.read(tmp_path)
    (tmp_path / "table.csv").write_bytes(b"mechanism\n\xff\n")
    with pytest.raises(ValueError, match=r"table\.csv is no CSV file"):
        comparison.read(tmp_path)
    assert cli.main(["report", "--compare", str(tmp_path), "-o", str(tmp_path / "x.html")]) == 2
    assert not (tmp_path / "x.html").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_comparison_takes_no_options_of_a_market(tmp_path, capsys):
    write_table(tmp_path)
    command = ["report", "--compare", str(tmp_path), "-o", str(tmp_path / "x.html")]
    assert cli.main([*command, "--beta", "200", "--fine", "1"]) == 2
    assert "leave out beta, fine" in capsys.readouterr().err
    assert cli.main([*command, "--beta", "1000"]) == 0, "the default"


def test_the_command_writes_the_page(tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert cli.main(["report", "gsm8k", "--beta", "200", "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.read_text() == market_page(market("gsm8k"))
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_scripts_are_javascript():
    """Where Node is installed, it parses them."""
    import shutil

    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    root = Path(__file__).parents[2]
    for file in [*(root / "ttc_env/report").glob("*.js"), *(root / "explorer").glob("*.js")]:
        subprocess.run([node, "--check", str(file)], check=True)
