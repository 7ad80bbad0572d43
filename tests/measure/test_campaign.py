"""Campaigns: read and checked before anything is measured, cut into shards, put together again."""

import dataclasses
import json
import sys
from importlib import resources

import pandas as pd
import pytest

from ttc_env import cli
from ttc_env.measure import plots, run
from ttc_env.measure.campaign import (
    Campaign,
    DialSpec,
    ProviderSpec,
    TaskSpec,
    read_campaign,
    shard_places,
)
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import TraceError, read_trace

EXAMPLES = resources.files("ttc_env.measure") / "campaigns"

TOML = """
[campaign]
out = "OUT"
betas = [200]

[tasks.short]
task = "chains"
limit = 20
alpha = 0.008

[dials.parallel]
samples = 4
levels = [1, 2, 4]

[dials.budgets]
samples = 1
budgets = [1, 2, 4]
coupled = true

[providers.weak]
model = "weak"
backend = "fake"
backend_options = { skill = 0.6 }
price = 1.0

[providers.strong]
model = "strong"
backend = "fake"
price = 2.0
"""


def write(tmp_path, text=TOML):
    path = tmp_path / "campaign.toml"
    path.write_text(text.replace("OUT", str(tmp_path / "out")))
    return path


def planned(path):
    campaign = read_campaign(path)
    return campaign.jobs(campaign.load_tasks())


def quiet(_):
    pass


def test_a_campaign_becomes_curves_and_solutions(tmp_path):
    campaign = read_campaign(write(tmp_path))
    jobs = campaign.jobs(campaign.load_tasks())
    assert len(jobs) == 4
    said = []
    paths = run.measure(campaign, jobs, say=said.append)
    files = run.finish(campaign, jobs, paths, 1.0, "test", said.append)
    assert [f.name for f in files] == [
        "chains-majority.csv",
        "chains-best_of_n.csv",
        "chains-reasoning.csv",
    ]
    out = tmp_path / "out"
    solved = (out / "solutions.csv").read_text()
    assert solved.count("\n") == 4
    assert "weak" in (out / "summary.csv").read_text()
    assert any("accuracy of one sample" in line for line in said)
    assert run.measure(campaign, jobs, say=quiet) == paths  # resumed: nothing is drawn again
    trace = read_trace(out / "traces" / "weak--chains--budgets1to4-t1.jsonl")
    record = next(iter(trace.records.values()))
    assert record["samples"]["budget"] == [1, 2, 4]
    assert all(t <= b for t, b in zip(record["samples"]["thinking_tokens"], [1, 2, 4], strict=True))


def test_a_campaign_ends_with_figures(tmp_path, monkeypatch):
    """Where matplotlib is not installed, one line says how to get them."""
    campaign = read_campaign(write(tmp_path, TOML.replace("[200]", "[200, 1000, 100000]")))
    jobs = campaign.jobs(campaign.load_tasks())
    paths = run.measure(campaign, jobs, say=quiet)
    said = []
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib.figure", None)
        run.finish(campaign, jobs, paths, 1.0, "test", said.append)
    lines = [line for line in said if "no figures" in line]
    assert len(lines) == 1
    assert "pip install 'ttc-env[plot]'" in lines[0]
    out = tmp_path / "out"
    assert not list(out.glob("*.png"))
    pytest.importorskip("matplotlib")
    run.finish(campaign, jobs, paths, 1.0, "test", said.append)
    for name in ("curves.png", "solutions.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob("*.part"))
    table = pd.read_csv(out / "solutions.csv")
    panels = plots.solutions_figure(table).axes
    assert len(panels) == 3  # majority, best of n, reasoning
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    rows = table[table.curves == "chains-majority.csv"].sort_values("beta")
    assert list(lines["market at list prices"].get_ydata()) == list(1000 * rows.welfare)
    assert list(lines["best possible"].get_xdata()) == [200, 1000, 100000]
    assert rows.levels.str.contains("weak").all()


def test_progress_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(run.time, "monotonic", lambda: 100.0)
    total = run.Total(questions=10, done=4, drawn=2, tokens=3000, cost=0.25, began=40.0)
    assert total.line(None) == (
        "4/10 questions, 3,000 tokens, 50 tokens/s, 3 min 00 s left, worth 0.25 USD at list prices"
    )
    assert total.line(6.0).endswith("0.10 USD of machine time")  # a minute of it
    fresh = run.Total(questions=10, began=100.0)
    assert fresh.line(None) == "0/10 questions, 0 tokens, 0 tokens/s, no speed known yet"
    assert run._duration(3 * 3600 + 125) == "3 h 02 min"
    monkeypatch.undo()
    monkeypatch.setattr(run._Meter, "EVERY", 0.0)
    text = TOML.replace("[campaign]", "[campaign]\nusd_per_hour = 3600.0")
    campaign, said = read_campaign(write(tmp_path, text)), []
    jobs = campaign.jobs(campaign.load_tasks())
    run.measure(campaign, jobs, say=said.append)
    lines = [line for line in said if line.startswith("[weak short parallel: 20/20]")]
    assert lines or [line for line in said if "20/20]" in line]
    last = [line for line in said if " questions, " in line][-1]
    assert "80/80 questions" in last
    assert "USD of machine time" in last


def test_what_looks_wrong_in_a_summary_is_noted():
    row = {
        "provider": "p", "task": "t", "questions": 9, "samples": 4, "accuracy": 0.2, "tokens": 12.4,
        "constant_baseline": 0.3, "cut_off": 0.2, "unparsed": 0.5,
    }  # fmt: skip
    text = run.summary_text(pd.DataFrame([row]))
    for note in ("raise max_tokens", "look at the prompt's format", "worse than always giving"):
        assert f"note: p on t: {note}" in text or note in text
    good = {**row, "accuracy": 0.9, "cut_off": 0.0, "unparsed": 0.0, "constant_baseline": None}
    assert "note:" not in run.summary_text(pd.DataFrame([good]))
    assert run.summary_text(pd.DataFrame()) == "nothing was measured"


def test_what_is_not_pinned_is_said_before_and_when_it_is_measured(tmp_path):
    campaign = read_campaign(write(tmp_path))
    tasks = {
        name: dataclasses.replace(task, origin={"path": "me/mine", "revision": "f" * 40})
        for name, task in campaign.load_tasks().items()
    }
    warning = next(iter(tasks.values())).unpinned
    jobs = campaign.jobs(tasks)
    assert "me/mine as it is today" in warning
    assert warning in run.describe(campaign, tasks, jobs)
    said = []
    run.measure(campaign, jobs, say=said.append)
    assert said.count(warning) == 1


def test_a_merge_says_what_is_missing(tmp_path):
    campaign = read_campaign(write(tmp_path))
    jobs = campaign.jobs(campaign.load_tasks())[:1]
    run.measure(campaign, jobs, shard=(1, 2), say=quiet)
    said = []
    run.merge(campaign, jobs, said.append)
    missing = [line for line in said if "questions are missing: a shard has not ended" in line]
    assert [line.split()[0] for line in missing] == ["10"]
    run.measure(campaign, jobs, shard=(2, 2), say=quiet)
    said.clear()
    run.merge(campaign, jobs, said.append)
    assert not [line for line in said if "missing" in line]


def test_shards_put_together_are_the_whole_run(tmp_path):
    campaign = read_campaign(write(tmp_path))
    tasks = campaign.load_tasks()
    jobs = campaign.jobs(tasks)
    whole = [read_trace(path).records for path in run.measure(campaign, jobs, say=quiet)]
    parts = dataclasses.replace(campaign, out=tmp_path / "parts")
    for shard in (3, 1, 2):
        run.measure(parts, jobs, shard=(shard, 3), say=quiet)
    merged = run.merge(parts, jobs, quiet)
    assert [read_trace(path).records for path in merged] == whole
    assert run.merge(parts, jobs, quiet) == merged  # again changes nothing
    assert [read_trace(path).records for path in merged] == whole


def test_every_question_belongs_to_one_shard(tmp_path):
    campaign = read_campaign(write(tmp_path))
    jobs = campaign.jobs(campaign.load_tasks())
    for of in (1, 2, 5, 7, 200):
        cut = [shard_places(jobs, shard, of) for shard in range(1, of + 1)]
        for j, job in enumerate(jobs):
            together = [place for places in cut for place in places[j]]
            assert sorted(together) == list(range(len(job.asked.questions)))
    weight = [
        sum(len(p) * j.how.most_tokens for p, j in zip(shard_places(jobs, s, 4), jobs, strict=True))
        for s in (1, 2, 3, 4)
    ]
    assert max(weight) - min(weight) <= 2 * max(job.how.most_tokens for job in jobs)
    with pytest.raises(ValueError, match="shard 4 of 3"):
        shard_places(jobs, 4, 3)


def test_shards_of_different_settings_do_not_mix(tmp_path):
    campaign = read_campaign(write(tmp_path))
    jobs = campaign.jobs(campaign.load_tasks())
    run.measure(campaign, jobs, shard=(1, 3), say=quiet)
    run.measure(dataclasses.replace(campaign, seed=1), jobs, shard=(2, 3), say=quiet)
    with pytest.raises(TraceError, match=r"other settings \(seed\)"):
        run.merge(campaign, jobs, quiet)


@pytest.mark.parametrize(
    "change, words",
    [
        (("[campaign]", "[campane]"), r"\[campane\] is unknown"),
        (("samples = 4", "sample = 4"), "'sample' is unknown; choose among"),
        (("samples = 4", 'samples = "4"'), "samples is '4'; expected int"),
        (("samples = 4", "samples = true"), "samples is True; expected int"),
        (("samples = 4", "samples = 0"), "n is 0"),
        (("levels = [1, 2, 4]", "levels = [1, 8]"), "levels go up to 8, but samples is 4"),
        (("levels = [1, 2, 4]", "levels = [0]"), "1 or more"),
        (("levels = [1, 2, 4]", 'levels = ["1"]'), "expected a list of int"),
        (("levels = [1, 2, 4]", 'methods = ["majorty"]'), "'majorty' is unknown"),
        (("levels = [1, 2, 4]", 'score = "reward"'), "needs a reward model"),
        (("limit = 20", "limit = -5"), "limit is -5"),
        (('task = "chains"', 'task = "chain"'), "'chain' is unknown"),
        (("price = 2.0", "price = -2.0"), "price is -2.0"),
        (("price = 2.0", "price = nan"), "price is nan"),
        (("price = 2.0", 'dials = ["other"]'), "names 'other' among its dials"),
        (("price = 2.0", "sampling = { heat = 1 }"), "'heat' is unknown"),
        (("price = 2.0", "backend_options = { colour = 1 }"), "no option 'colour'"),
        (("[providers.strong]", '[providers."../strong"]'), "cannot be part of a file name"),
        (('model = "strong"', ""), "model is missing"),
        (('backend = "fake"', 'backend = "faker"'), "'faker' is unknown"),
        (("betas = [200]", "betas = [0]"), "betas"),
        (("[tasks.short]", "[tasks"), "is no TOML file"),
        (("samples = 4", "samples = 4\nmax_tokens = 0"), "max_tokens is 0; it must be at least 1"),
        (("budgets = [1, 2, 4]", "budgets = [1, 2, 2]"), "give different ones, 0 or more"),
        (("budgets = [1, 2, 4]", "budgets = [-1]"), "give different ones, 0 or more"),
        (("betas = [200]", "betas = [200]\ncheck_timeout = 0.0"), "check_timeout is 0.0"),
        (("betas = [200]", "betas = [200]\nbatch = 0"), "batch is 0; it must be at least 1"),
        (
            ("[dials.budgets]", "[dials.twice]\nsamples = 4\n\n[dials.budgets]"),
            "two dials would write the trace .*--chains--n4-t1.jsonl",
        ),
        (
            ("[dials.parallel]", '[tasks.again]\ntask = "chains"\n\n[dials.parallel]'),
            "two tasks would write the same files: chains, chains",
        ),
        (
            ("[providers.weak]", "[reward_model]\ndtype = 'auto'\n\n[providers.weak]"),
            r"\[reward_model\] needs a model",
        ),
        (
            ("[dials.parallel]", "[dials]\nparallel = 3\n\n[dials.other]"),
            "parallel must be a table",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(tmp_path, change, words):
    path = write(tmp_path, TOML.replace(*change))
    with pytest.raises(ValueError, match=words):
        planned(path)
    assert not (tmp_path / "out").exists()


def test_nothing_secret_is_written(tmp_path):
    provider = ProviderSpec(
        "org/m",
        "openai",
        {"api_key": "sk-secret", "base_url": "http://h/token-abc/v1", "concurrency": 3},
    )
    campaign = Campaign(
        tmp_path, {"m": provider}, {"t": TaskSpec("chains", 3)}, {"d": DialSpec(samples=2)}
    )
    jobs = campaign.jobs(campaign.load_tasks())
    text = run.sources(campaign, jobs, [], 1.0, "ttc-env measure")
    assert "concurrency 3" in text
    for secret in ("sk-secret", "token-abc", str(tmp_path)):
        assert secret not in text


@pytest.mark.parametrize("name", ["paper", "today"])
def test_the_shipped_examples_are_dry_run(name, monkeypatch):
    """With stand-ins for the data sets, which are not downloaded here."""
    campaign = read_campaign(EXAMPLES / f"{name}.toml")

    def stand_in(spec, seed):
        task = load_task("chains", limit=3)
        prompts = [
            dataclasses.replace(q, prompt=({"role": "user", "content": "?"},))
            for q in task.questions
        ]
        return dataclasses.replace(task, name=spec.task, questions=tuple(prompts))

    monkeypatch.setattr(TaskSpec, "load", stand_in)
    tasks = campaign.load_tasks()
    jobs = campaign.jobs(tasks)
    text = run.describe(campaign, tasks, jobs)
    assert "USD of machine time" in text
    assert "USD at its list price" in text
    families = {
        (job.task, method)
        for job in jobs
        for method in (["reasoning"] if "reason" in job.dial else campaign.dials[job.dial].methods)
    }
    assert len(families) == 9
    if name == "paper":
        assert len(campaign.providers) == 12
        dials = {job.label for job in jobs}
        assert dials == {"n128-t0.6", "n128-t0.7", "n32-t0.6"}


def test_a_models_own_system_prompt_and_sampling(tmp_path):
    message = ({"role": "system", "content": "old"}, {"role": "user", "content": "?"})
    task = load_task("chains", limit=1)
    task = dataclasses.replace(
        task, questions=(dataclasses.replace(task.questions[0], prompt=message),)
    )
    assert ProviderSpec("m").asks(task) is task
    assert [
        m["content"] for m in ProviderSpec("m", system="new").asks(task).questions[0].prompt
    ] == [
        "new",
        "?",
    ]
    assert len(ProviderSpec("m", system="").asks(task).questions[0].prompt) == 1
    with pytest.raises(ValueError, match="plain text"):
        ProviderSpec("m", system="new").asks(load_task("chains", limit=1))
    campaign = read_campaign(
        write(tmp_path, TOML.replace("price = 2.0", "sampling = { top_k = 7 }"))
    )
    dial = campaign.dial(campaign.providers["strong"], "parallel")
    assert dial.top_k == 7
    assert campaign.dials["parallel"].top_k == 0


def test_traces_of_the_same_provider_twice_are_refused(tmp_path):
    from ttc_env.measure.estimate import CurveOptions, curves_of

    campaign = read_campaign(write(tmp_path))
    jobs = campaign.jobs(campaign.load_tasks())
    paths = run.measure(campaign, jobs, say=quiet)
    with pytest.raises(ValueError, match="2 traces are about 'weak'"):
        curves_of([paths[0], paths[0]], CurveOptions(), {})


def test_a_header_cannot_choose_where_curves_are_written(tmp_path):
    from ttc_env.measure.estimate import CurveOptions, curves_of

    campaign = read_campaign(write(tmp_path))
    path = run.measure(campaign, campaign.jobs(campaign.load_tasks())[:1], say=quiet)[0]
    header, rest = path.read_text().split("\n", 1)
    entry = json.loads(header)
    entry["settings"]["task"] = "../../outside"
    path.write_text(json.dumps(entry) + "\n" + rest)
    with pytest.raises(ValueError, match="cannot be part of a file name"):
        curves_of([path], CurveOptions(), {})


REWARD = """
[reward_model]
model = "nowhere/at-all"
trust_remote_code = true
"""
ENGINE = """backend = "vllm"
backend_options = { engine = { trust_remote_code = true } }"""


@pytest.mark.parametrize(
    "text, table",
    [
        (TOML + REWARD, "[reward_model]"),
        (TOML.replace('backend = "fake"\nprice = 2.0', ENGINE), "[providers.strong]"),
    ],
)
def test_a_file_alone_cannot_have_remote_code_run(tmp_path, capsys, monkeypatch, text, table):
    def begun(*args, **options):
        raise ValueError("begun")

    path = write(tmp_path, text)
    monkeypatch.setattr(run, "measure", begun)
    assert cli.main(["measure", str(path), "--dry-run"]) == 0  # loads no model
    for more, told in (((), f"{table} would run code"), (("--trust-remote-code",), "begun")):
        assert cli.main(["measure", str(path), *more]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["providers", "tasks", "dials"])
def test_a_campaign_without_its_parts_is_refused(tmp_path, name):
    campaign = read_campaign(write(tmp_path))
    with pytest.raises(ValueError, match=rf"at least one entry in \[{name}\]"):
        dataclasses.replace(campaign, **{name: {}})
