"""`ttc-env deterrence`: the same numbers as the function's, and errors in one line."""

import json

import pytest

import ttc_env
from ttc_env.cli import main


def test_it_prints_what_the_function_finds(capsys):
    arguments = ["deterrence", "aime", "--beta", "200", "--audit-rate", "0.1", "--fine", "0.02"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    market = ttc_env.load_market("aime", beta=200)
    lies = ("over_report", "under_serve")
    expected = ttc_env.deterrence(market, "market", misreport=lies, audit_rate=0.1, fine=0.02)
    (entry,) = found["honest_equilibria"]
    assert entry["frontier"] == expected.line[0]
    assert entry["by_kind"] == {kind: line[0] for kind, line in expected.by_kind.items()}
    assert list(entry["by_provider"].values()) == expected.by_provider[0].tolist()
    assert entry["holds"] == expected.holds[0]
    lie, paid = expected.best_lie()
    assert entry["best_lie"]["provider"] == market.names[lie.provider]
    assert entry["best_lie"]["who_pays"]["users"] == paid.users
    assert found["expected_fine"] == pytest.approx(0.002)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert f"{1e3 * expected.line[0]:.6g}" in text
    assert "no equilibrium" in text


def test_nothing_to_deter_is_said(capsys):
    """The auction that pays by what is delivered: no lie pays, and no line names one."""
    arguments = ["deterrence", "--mechanism", "auction", "--providers", "Qwen2-7B,Qwen2.5-7B"]
    assert main([*arguments, "--misreport", "over_claim=1.1"]) == 0
    text = capsys.readouterr().out
    assert "fine that deters" in text
    assert "set by" not in text
    assert "the lie that pays most" not in text


def test_lies_and_settlements_can_be_chosen(capsys):
    arguments = ["deterrence", "--mechanism", "auction", "--providers", "Qwen2-7B,Qwen2.5-7B"]
    for settlement, fined in (("delivered", False), ("claimed", True)):
        told = ["--misreport", "over_claim=1.1/3", "--settlement", settlement, "--json"]
        assert main([*arguments, *told]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["lies"] == ["over_claim 1.1", "over_claim 3"]
        assert (found["honest_equilibria"][0]["frontier"] > 0) == fined


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--misreport", "lie"], "'lie' is unknown; choose among 'over_report'"),
        (["--mechanism", "flat_fee", "--misreport", "over_report"], "makes no sense"),
        (["--mechanism", "flat_fee", "--noticed"], "has no --noticed"),
        (["--settlement", "claimed"], "has no --settlement"),
        (["--mechanism", "lottery"], "choose one of"),
    ],
)
def test_errors_are_one_line(arguments, words, capsys):
    assert main(["deterrence", *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
