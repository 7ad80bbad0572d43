"""Options as TOML files, as commands, and as Hydra's structured configs: what is written is read
back as it was.
"""

import argparse
import dataclasses
import shlex
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.plan import TrainConfig
from baselines.sweeps import LearnerSweepConfig
from ttc_env import settings
from ttc_env.cli.sweep import SweepConfig
from ttc_env.measure.campaign import Campaign, campaign_toml, read_campaign

EXAMPLES = [
    TrainConfig(),
    TrainConfig(learner="provider_0=ppo,rest=constant:level=16", beta=1e5, alpha=0.01, seeds="0,3"),
    TrainConfig(outside_value=-0.5, options='note="a\\b"', steps=7),
    SweepConfig(),
    SweepConfig(benchmarks=["a/b", "c d.csv"], betas=[1.0, 1e7], providers=["Qwen2-7B"]),
    LearnerSweepConfig(learners=["hedge", "ucb"], seeds=[4, 0], steps=10),
]

texts = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts


@given(
    st.recursive(
        st.dictionaries(texts, leaves | st.lists(leaves)),
        lambda inner: st.dictionaries(texts, leaves | inner | st.lists(inner)),
        max_leaves=10,
    )
)
def test_what_is_written_as_toml_is_read_back(values):
    assert tomllib.loads(settings.to_toml(values)) == values


@pytest.mark.parametrize("config", EXAMPLES, ids=repr)
def test_a_config_is_saved_and_loaded(config, tmp_path):
    settings.save(config, tmp_path / "config.toml")
    assert settings.load(type(config), tmp_path / "config.toml") == config


@pytest.mark.parametrize("config", EXAMPLES, ids=repr)
def test_a_config_prints_as_a_command_that_means_it(config, tmp_path):
    parser = argparse.ArgumentParser()
    settings.add_options(parser, type(config))
    printed = settings.command(config, "program")
    words = shlex.split(printed)
    assert words[0] == "program"
    assert settings.read_options(type(config), parser.parse_args(words[1:])) == config
    path = tmp_path / "config.toml"
    path.write_text(settings.show(config, "program"))
    assert path.read_text().startswith(f"# {printed}")
    assert settings.load(type(config), path) == config
    # options stand above the file
    name = "steps" if hasattr(config, "steps") else "alpha"
    options = parser.parse_args([f"--{name}", "3"])
    changed = settings.read_options(type(config), options, path)
    assert changed == dataclasses.replace(config, **{name: 3})


CAMPAIGN = """
[campaign]
out = "runs/x"
betas = [200, 1000.5]

[providers."Qwen2.5-7B"]
model = "org/model"
price = 1
backend = "fake"
backend_options = { skill = 0.5 }
sampling = { temperature = 0.5 }
dials = ["many"]

[tasks.short]
task = "chains"
limit = 3
data = "questions.jsonl"
options = { max_terms = 4 }

[dials.many]
samples = 4
levels = [1, 2, 4]

[reward_model]
model = "org/reward"
dtype = "bfloat16"
"""


def test_a_campaign_is_written_and_read(tmp_path):
    (tmp_path / "a.toml").write_text(CAMPAIGN)
    (tmp_path / "elsewhere").mkdir()
    campaign = read_campaign(tmp_path / "a.toml")
    assert isinstance(campaign, Campaign)
    (tmp_path / "elsewhere/b.toml").write_text(campaign_toml(campaign))
    assert read_campaign(tmp_path / "elsewhere/b.toml") == campaign


def test_the_command_line_of_measure_is_written_as_a_campaign(tmp_path, capsys):
    from ttc_env import cli
    from ttc_env.cli import measure

    words = "--backend fake --models demo --task chains --samples 4 --prices 1 --betas 200,1000"
    assert cli.main(["measure", *words.split(), "--out", "runs/demo", "--show"]) == 0
    (tmp_path / "c.toml").write_text(capsys.readouterr().out)
    args = cli.parser().parse_args(["measure", *words.split(), "--out", "runs/demo"])
    assert read_campaign(tmp_path / "c.toml") == settings.of(
        Campaign, settings.content(measure._campaign(args))
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": "x"}, "beta is 'x'; expected float"),
        ({"beta": True}, "beta is True; expected float"),
        ({"beta": 10**400}, "beta is too large; numbers end at 1e308"),
        ({"steps": 1.5}, "steps is 1.5; expected int"),
        ({"bta": 1.0}, "'bta' is unknown; choose among alpha"),
    ],
)
def test_bad_entries_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        settings.of(TrainConfig, values)


def test_bad_lists_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"betas is \[True\]; expected a list of float"):
        settings.of(SweepConfig, {"betas": [True]})
    with pytest.raises(ValueError, match="each once"):
        settings.of(SweepConfig, {"betas": [1, 1.0]})
    for text in ("a = [", f"a = {'9' * 5000}", f"a = {'[' * 5000}", "a = '\x00'"):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(ValueError, match=r"x\.toml is no TOML file"):
            settings.load(SweepConfig, tmp_path / "x.toml")
    with pytest.raises(TypeError, match="TOML cannot hold"):
        settings.to_toml({"a": object()})


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int | None = 3


@dataclasses.dataclass(frozen=True)
class Outer:
    one: Inner
    many: dict[str, Inner] = dataclasses.field(default_factory=dict)


def test_nothing_is_a_value_where_it_may_be_and_a_table_is_named_as_one():
    assert settings.of(Inner, {"size": None}) == Inner(None)
    assert settings.of(Outer, {"one": {}, "many": {"x": {"size": None}}}).many["x"].size is None
    with pytest.raises(ValueError, match="one is 3; expected a table"):
        settings.of(Outer, {"one": 3})
    with pytest.raises(ValueError, match=r"many\.x is 3; expected a table"):
        settings.of(Outer, {"one": {}, "many": {"x": 3}})


@pytest.mark.parametrize("kind", [TrainConfig, SweepConfig, LearnerSweepConfig])
def test_a_structured_config_has_the_same_defaults_and_may_be_changed(kind):
    """What Hydra needs, without it: see the tests below."""
    made = settings.structured(kind)
    assert [f.name for f in dataclasses.fields(made)] == [f.name for f in dataclasses.fields(kind)]
    one, other = made(), made()
    assert settings.of(kind, dataclasses.asdict(one)) == kind()
    name = "beta" if kind is TrainConfig else "alpha"
    setattr(one, name, 0.25)
    assert settings.of(kind, dataclasses.asdict(one)) == dataclasses.replace(kind(), **{name: 0.25})
    for field in dataclasses.fields(made):
        value = getattr(one, field.name)
        assert not isinstance(value, tuple)
        if isinstance(value, (list, dict)):
            assert value is not getattr(other, field.name)


def test_a_structured_config_says_what_must_be_given():
    made = settings.structured(Outer)
    assert made().one == "???"  # OmegaConf's sign
    assert made().many == {}
    hints = {f.name: f.type for f in dataclasses.fields(made)}
    assert dataclasses.is_dataclass(hints["one"])
    assert hints["one"]().size == 3
    assert typing.get_origin(hints["many"]) is dict
    assert dataclasses.is_dataclass(typing.get_args(hints["many"])[1])
    campaign = settings.structured(Campaign)
    assert campaign().providers == "???"


@pytest.mark.parametrize("config", EXAMPLES, ids=repr)
def test_hydra_composes_and_overrides(config):
    pytest.importorskip("hydra", reason="pip install hydra-core")
    from hydra import compose, initialize
    from hydra.core.config_store import ConfigStore
    from hydra.errors import ConfigCompositionException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kind = type(config)
    ConfigStore.instance().store(name="config", node=settings.structured(kind))
    with initialize(version_base=None):
        chosen = compose("config")
        assert settings.of(kind, OmegaConf.to_container(chosen)) == kind()
        name = "beta" if kind is TrainConfig else "alpha"
        chosen = compose("config", [f"{name}=0.25"])
        made = settings.of(kind, OmegaConf.to_container(chosen))
        assert made == dataclasses.replace(kind(), **{name: 0.25})
        with pytest.raises(ConfigCompositionException):
            compose("config", [f"{name}=word"])
    whole = OmegaConf.merge(
        OmegaConf.structured(settings.structured(kind)), settings.content(config)
    )
    assert settings.of(kind, OmegaConf.to_container(whole)) == config
    with pytest.raises(OmegaConfBaseException):
        whole.bta = 1


def test_a_campaign_is_a_structured_config(tmp_path):
    omegaconf = pytest.importorskip("omegaconf", reason="pip install hydra-core")
    (tmp_path / "a.toml").write_text(CAMPAIGN)
    campaign = read_campaign(tmp_path / "a.toml")
    whole = omegaconf.OmegaConf.merge(
        omegaconf.OmegaConf.structured(settings.structured(Campaign)), settings.content(campaign)
    )
    made = settings.of(Campaign, omegaconf.OmegaConf.to_container(whole))
    assert Path(made.out) == campaign.out
    assert made.providers == campaign.providers
    assert made.tasks == campaign.tasks
    assert made.dials["many"].levels == [1, 2, 4]
