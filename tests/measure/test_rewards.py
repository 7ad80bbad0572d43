"""Reward models, with stand-ins for transformers' classes: what is asked of the library, and how
its outputs are read. tests/measure/test_real_engine.py loads a real one.
"""

import sys
from types import SimpleNamespace

import pytest

from ttc_env.measure.backends.base import MissingExtra
from ttc_env.measure.rewards import RewardModel

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")

QUESTION = ({"role": "user", "content": "2+2?"},)


class Inputs(dict):
    def to(self, device):
        return self


class Tokenizer:
    """Every character is a token, but "<extra_0>", which is one token."""

    MARK = 1_000_000

    def encode(self, text, add_special_tokens=True):
        ids, rest = [], text
        while rest:
            if rest.startswith("<extra_0>"):
                ids.append(self.MARK)
                rest = rest[len("<extra_0>") :]
            else:
                ids.append(ord(rest[0]))
                rest = rest[1:]
        return ids

    def __call__(self, texts, return_tensors, padding=False, add_special_tokens=True):
        rows = [self.encode(text) for text in texts]
        width = max(map(len, rows))
        return Inputs(input_ids=torch.tensor([row + [0] * (width - len(row)) for row in rows]))

    def apply_chat_template(self, messages, tokenize):
        return "".join(f"[{m['role']}]{m['content']}" for m in messages)


class Model:
    dtype = torch.bfloat16

    def __init__(self, output):
        self.output = output
        self.config = SimpleNamespace(pad_token_id=0, num_labels=19)

    def to(self, device):
        return self

    def eval(self):
        return self

    def __call__(self, **inputs):
        return self.output(inputs["input_ids"])


@pytest.fixture
def library(monkeypatch):
    """A stand-in for transformers whose models give `answers["output"]`; records what was asked."""
    asked, answers = [], {}

    def loader(name):
        def from_pretrained(model, **options):
            asked.append((name, options))
            return Model(answers["output"])

        return SimpleNamespace(from_pretrained=from_pretrained)

    def tokenizer(model, **options):
        asked.append(("tokenizer", options))
        return Tokenizer()

    names = ("SequenceClassification", "TokenClassification", "CausalLM")
    fake = SimpleNamespace(
        __version__="9",
        AutoTokenizer=SimpleNamespace(from_pretrained=tokenizer),
        AutoModel=loader("AutoModel"),
        **{f"AutoModelFor{name}": loader(name) for name in names},
    )
    monkeypatch.setitem(sys.modules, "transformers", fake)
    return SimpleNamespace(asked=asked, answers=answers)


def test_a_score_of_the_models_own_is_read(library):
    """ArmoRM: nineteen logits, and one `.score`."""
    library.answers["output"] = lambda ids: SimpleNamespace(
        logits=torch.zeros(len(ids), 19), score=(ids != 0).sum(1).to(torch.bfloat16)
    )
    model = RewardModel("m", dtype="bfloat16", trust_remote_code=True)
    loaded = dict(library.asked)["SequenceClassification"]
    assert loaded["trust_remote_code"] is True
    assert loaded["dtype"] is torch.bfloat16
    short, long = model.score(QUESTION, ["4", "four"])
    assert long - short == 3
    assert model.describe()["dtype"] == "bfloat16"


def test_remote_code_is_never_run_unasked(library):
    library.answers["output"] = lambda ids: SimpleNamespace(logits=torch.zeros(len(ids), 19))
    model = RewardModel("m")
    assert [options["trust_remote_code"] for _, options in library.asked] == [False, False]
    with pytest.raises(ValueError, match=r"19 outputs and no `\.score`"):
        model.score(QUESTION, ["4"])


@pytest.mark.parametrize("width, expected", [(1, 2.0), (2, 1.0)])
def test_one_output_or_two(library, width, expected):
    row = torch.tensor([[2.0, 3.0]])[:, :width]
    library.answers["output"] = lambda ids: SimpleNamespace(logits=row.repeat(len(ids), 1))
    assert RewardModel("m").score(QUESTION, ["a", "b"]) == [expected] * 2


def process_output(ids):
    """The third step is bad, the others are good."""
    logits = torch.zeros(len(ids), ids.shape[1], 2)
    places = (ids[0] == Tokenizer.MARK).nonzero()[:, 0]
    for j, place in enumerate(places):
        logits[0, place, 1] = -2.0 if j == 2 else 2.0
    return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("reduce", ["min", "last", "mean", "product"])
def test_steps_of_a_process_reward_model(library, reduce):
    library.answers["output"] = process_output
    model = RewardModel("m", kind="process", reduce=reduce)
    assert library.asked[-1][0] == "TokenClassification"
    good, bad = (float(torch.sigmoid(torch.tensor(x))) for x in (2.0, -2.0))
    text = "one\n\ntwo\n\nthree\n\nfour"
    assert model.steps(QUESTION, text) == pytest.approx([good, good, bad, good])
    expected = {
        "min": bad, "last": good, "mean": (3 * good + bad) / 4, "product": good**3 * bad,
    }  # fmt: skip
    assert model.score(QUESTION, [text]) == pytest.approx([expected[reduce]])
    assert model.describe()["reduce"] == reduce
    assert len(model.steps(QUESTION, "")) == 1  # an empty answer is one step


def test_a_causal_process_reward_model(library):
    def output(ids):
        logits = torch.zeros(1, ids.shape[1], 200)
        logits[..., ord("+")] = 3.0
        return SimpleNamespace(logits=logits)

    library.answers["output"] = output
    model = RewardModel("m", kind="process", mark="~", good="+", bad="-")
    assert library.asked[-1][0] == "CausalLM"
    expected = float(torch.sigmoid(torch.tensor(3.0)))
    assert model.steps(QUESTION, "a\n\nb") == pytest.approx([expected, expected])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"dtype": "int4"}, "choose one of auto, bfloat16"),
        ({"kind": "vibes"}, "outcome, process"),
        ({"kind": "process", "reduce": "max"}, "min, product, last, mean"),
        ({"kind": "process", "good": "+"}, "both"),
        ({"kind": "process", "mark": "<no>"}, "is 4 tokens"),
        ({"batch": 0}, "at least 1"),
    ],
)
def test_what_is_wrong_is_told(library, options, words):
    library.answers["output"] = process_output
    with pytest.raises(ValueError, match=words):
        RewardModel("m", **options).score(QUESTION, ["a"])


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="pip install"):
        RewardModel("m")
