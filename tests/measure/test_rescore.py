"""Stored answers scored again: what changes is counted, what was there is kept."""

import gzip
import json
import os

import pytest

from ttc_env.cli import main
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel
from ttc_env.measure.estimate import summarise
from ttc_env.measure.rescore import rescore
from ttc_env.measure.scoring import SCORING_VERSION
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import TraceError, TraceWriter, compress_trace, read_trace


def quiet(_):
    pass


@pytest.fixture
def whole(tmp_path):
    """A trace scored by today's checks."""
    path = tmp_path / "whole.jsonl"
    dial = Parallel(Sampling(n=4, max_tokens=6))  # some samples are cut off
    collect(load_task("chains", limit=12), FakeBackend(), dial, path, warn=quiet)
    return path


@pytest.fixture
def old(whole):
    """The same as version 1 of the checks left it: two verdicts are others."""
    lines = [json.loads(line) for line in whole.read_text().splitlines()]
    lines[0]["session"]["scoring"] = 1
    turned = 0
    for line in lines[1:]:
        columns = line["samples"]
        for j, right in enumerate(columns["correct"]):
            if turned == 0 and right:  # right, and not seen: an answer that was missed
                columns["answer"][j], columns["correct"][j], turned = None, False, 1
            elif turned == 1 and not right and columns["finish"][j] == "stop":
                columns["correct"][j], turned = True, 2
    assert turned == 2
    path = whole.with_name("old.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_todays_verdicts_take_the_place_of_yesterdays(whole, old):
    before = old.read_bytes()
    said = []
    assert summarise(old, warn=said.append)["questions"] == 12
    assert "ttc-env rescore" in said[0]
    result = rescore(old, say=quiet)
    assert (result.questions, result.samples) == (12, 48)
    assert (result.to_right, result.to_wrong, result.answers_changed) == (1, 1, 1)
    assert result.accuracy == result.accuracy_before
    trace, today = read_trace(old), read_trace(whole)
    assert trace.records == today.records
    assert trace.settings == today.settings
    assert trace.sessions[0]["scoring"] == SCORING_VERSION
    assert trace.sessions[0]["scoring_before"] == 1
    assert result.kept == old.with_name("old.jsonl.scoring1")
    assert result.kept.read_bytes() == before
    assert not list(old.parent.glob("*.part"))
    said.clear()
    summarise(old, warn=said.append)
    assert not said
    again = rescore(old, say=quiet)
    assert again.written is None
    assert again.kept is None


def test_the_texts_decide_not_the_stored_verdicts(whole):
    """Whatever stood there: today's verdicts are a function of text, finish and gold answer."""
    want = read_trace(whole).records
    lines = [json.loads(line) for line in whole.read_text().splitlines()]
    for line in lines[1:]:
        line["samples"]["answer"] = ["?"] * 4
        line["samples"]["correct"] = [not c for c in line["samples"]["correct"]]
    whole.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = rescore(whole, say=quiet)
    assert read_trace(whole).records == want
    assert result.to_right + result.to_wrong == 48
    cut = [f for r in want.values() for f in r["samples"]["finish"]].count("length")
    assert cut > 0
    assert result.accuracy <= 1 - cut / 48


def test_a_new_file_in_place_of_the_old(old, tmp_path):
    before = old.read_bytes()
    packed = old.with_name("packed.jsonl.gz")
    compress_trace(old, packed)
    out = tmp_path / "out"
    for path in (old, packed):
        result = rescore(path, out, say=quiet)
        assert result.written == out / path.name
        assert result.kept is None
    assert old.read_bytes() == before
    assert gzip.decompress((out / packed.name).read_bytes()) == (out / old.name).read_bytes()
    with pytest.raises(FileExistsError, match="choose another --out"):
        rescore(old, out, say=quiet)


def test_what_breaks_leaves_the_old_file(old, monkeypatch):
    before = old.read_bytes()

    class Broken:
        def run(self, jobs):
            raise RuntimeError("the checking broke")

    with pytest.raises(RuntimeError, match="the checking broke"):
        rescore(old, pool=Broken(), say=quiet)
    replace = os.replace

    def full(source, target):
        if str(target) == str(old):
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        rescore(old, say=quiet)
    assert old.read_bytes() == before
    assert not list(old.parent.glob("*.part"))


def test_a_trace_under_way_is_left_alone(old):
    trace = read_trace(old)
    with (
        TraceWriter(old, trace.settings, {}),
        pytest.raises(TraceError, match="being written by another process"),
    ):
        rescore(old, say=quiet)
    with old.open("ab") as stream:
        stream.write(b'{"kind":"question","id":"torn')
    with pytest.raises(TraceError, match="torn"):
        rescore(old, say=quiet)


def test_the_command(old, whole, capsys):
    before = old.read_bytes()
    assert main(["rescore", str(old), str(whole), "--dry-run"]) == 0
    first, second = capsys.readouterr().out.strip().splitlines()
    assert "verdicts of 2 changed (1 to right, 1 to wrong), answers of 1" in first
    assert "verdicts of 0 changed" in second
    assert old.read_bytes() == before
    assert main(["rescore", str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["to_right"] == 1
    assert read_trace(old).records == read_trace(whole).records
    assert main(["rescore", str(old.with_name("nothing.jsonl"))]) == 2
