"""vLLM's own thinking budget: one request in place of two phases, with the same law and bill.

The engines here are stand-ins; tests/measure/test_real_engine.py asks the real one.
"""

import dataclasses
import sys
import types

import pytest

from ttc_env.measure import run
from ttc_env.measure.backends.base import Begun, Request, Sample, Sampling, ThoughtMarks
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.backends.vllm_engine import VllmBackend
from ttc_env.measure.campaign import Campaign, DialSpec, ProviderSpec, TaskSpec
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import ThinkingBudget
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import read_trace

MARK, END_OF_TURN = ord("="), 0
MARKS = ThoughtMarks(":", "=", MARK)
DIAL = ThinkingBudget(Sampling(n=2), 4, "=", answer_tokens=3, thought_start=":")
QUESTION = ({"role": "user", "content": "2+2?"},)


class Scripted(FakeBackend):
    """Every sample follows one script, by single characters; "$" ends the turn. With a thinking
    budget it writes the marker itself, as vLLM does; without one it knows stop strings.
    """

    def __init__(self, *scripts, marks=MARKS):
        super().__init__("m")
        self.scripts, self.thought_marks, self.asked = scripts, marks, []

    def generate(self, prompts, sampling, seeds):
        rows = []
        for prompt in prompts:
            self.asked.append((prompt, sampling))
            rows.append([self.sample(prompt, sampling, j) for j in range(sampling.n)])
        return rows

    def sample(self, prompt, sampling, j):
        script = self.scripts[j % len(self.scripts)]
        written = prompt.rpartition(":")[2] if isinstance(prompt, str) else ""
        if "=" in written:  # to be answered, after a thought that was closed for it
            rest = script.partition("=")[2] or "7$"
        elif sampling.thinking_budget is not None:
            thought, mark, answer = script.partition("=")
            rest = script
            if len(thought.removesuffix("$")) > sampling.thinking_budget or (
                mark and len(thought) == sampling.thinking_budget
            ):
                rest = thought[: sampling.thinking_budget] + "=" + (answer or "7$")
        else:
            rest = script
        text, finish, ids = "", "length", []
        for character in rest[: sampling.max_tokens]:
            ids.append(END_OF_TURN if character == "$" else ord(character))
            if character == "$" or character in sampling.stop:
                finish = "stop"
                break
            text += character
        # a marker that the model did not want is unlikely: it must not be counted
        logprobs = tuple(-100.0 if i == MARK else -1.0 for i in ids)
        return Sample(text, len(ids), sum(logprobs), finish, tuple(ids), logprobs)

    def decode(self, token_ids):
        return "".join(chr(i) for i in token_ids if i != END_OF_TURN)


@pytest.mark.parametrize(
    "script, thinking, answer, text, finish",
    [
        ("12=4$", 3, 2, "12=4", "stop"),  # closed by the model: its marker is billed
        ("123=4$", 4, 2, "123=4", "stop"),  # the marker is the budget's last token
        ("1234=4$", 4, 2, "1234=4", "stop"),  # would be the fifth: the engine's marker, not billed
        ("123456=4$", 4, 2, "1234=4", "stop"),
        ("12=45678$", 3, 3, "12=456", "length"),  # an answer that is too long is cut and billed
        ("123456=456789$", 4, 3, "1234=456", "length"),
        ("12=45$", 3, 3, "12=45", "stop"),
        ("12$", 3, 2, "12=7", "stop"),  # the turn ended in the thought: asked for the answer
    ],
)
def test_one_request_says_and_bills_what_two_phases_do(script, thinking, answer, text, finish):
    one, two = Scripted(script), Scripted(script, marks=None)
    (row,) = DIAL.on(one).draw(one, ["2+2:"], [0])
    (other,) = DIAL.on(two).draw(two, ["2+2:"], [0])
    assert [(d.thinking_tokens, d.answer_tokens, d.text, d.finish) for d in row] == [
        (thinking, answer, text, finish)
    ] * 2
    for mine, theirs in zip(row, other, strict=True):
        assert dataclasses.replace(mine, logprob=None) == dataclasses.replace(theirs, logprob=None)
        if thinking == 4 and script[3] != "=":
            assert mine.logprob == theirs.logprob == -(4.0 + answer)
    phases = 2 if script == "12$" else 1
    assert len(one.asked) == (1 if phases == 1 else 3)  # two samples are asked for their answer
    assert one.asked[0][1].thinking_budget == 4
    assert one.asked[0][1].max_tokens == 4 + 1 + 3
    assert all(sampling.thinking_budget is None for _, sampling in two.asked)


def test_samples_of_one_request_may_end_differently():
    engine = Scripted("12$", "12=4$", "123456$")
    dial = dataclasses.replace(DIAL, sampling=Sampling(n=3)).on(engine)
    (row,) = dial.draw(engine, ["2+2:"], [0])
    assert [d.text for d in row] == ["12=7", "12=4", "1234=7"]
    assert len(engine.asked) == 2  # only the first is asked for its answer


@pytest.mark.parametrize(
    "change",
    [
        {"answer_prefix": "Answer: "},  # the engine writes the marker alone
        {"answer_stop": (".",)},  # and would stop in the thought
        {"budget": 0},
        {"engine": False},
        {"thought_end": "#"},  # not what this engine was started with
        {"thought_start": ""},  # what opens the thought is not known
    ],
)
def test_two_phases_where_the_engine_cannot_do_it(change):
    assert DIAL.on(Scripted()).marks == MARKS
    assert dataclasses.replace(DIAL, **change).on(Scripted()).marks is None
    assert DIAL.on(FakeBackend()).marks is None


def test_the_marker_that_opens_a_thought_is_guessed_from_the_one_that_closes_it():
    dial = ThinkingBudget(Sampling(), 4, "</think>", 8)
    assert dial.engine_marks() == ("<think>", "</think>")
    assert dataclasses.replace(dial, thought_start="<t>\n").engine_marks() == ("<t>", "</think>")


def test_an_engine_that_ignores_its_budget_is_caught():
    class Deaf(Scripted):
        def sample(self, prompt, sampling, j):
            return super().sample(prompt, dataclasses.replace(sampling, thinking_budget=90), j)

    engine = Deaf("123456=4$")
    with pytest.raises(RuntimeError, match="6 tokens exceeds its budget of 4"):
        DIAL.on(engine).draw(engine, ["2+2:"], [0])


def test_a_trace_says_which_way_it_was_drawn(tmp_path):
    task = load_task("chains", limit=2)
    for name, marks in (("engine", MARKS), ("phases", None)):
        path = tmp_path / f"{name}.jsonl"
        collect(task, Scripted("12=4$", marks=marks), DIAL, path, warn=lambda _: None)
        settings = read_trace(path).settings
        assert settings.get("closed_by") == ("engine" if marks else None)
        assert settings["budget"] == 4


class Parameters:
    """vLLM's SamplingParams, as far as it is asked."""

    __struct_fields__ = ("n", "thinking_token_budget")

    def __init__(self, **values):
        self.__dict__.update(values)


class Llm:
    """vLLM's LLM: requests end in the reverse order of their submission, one a step."""

    def __init__(self, model, **arguments):
        self.arguments, self.added, self.aborted = arguments, [], []
        self.llm_engine = self
        scheduler = types.SimpleNamespace(max_num_seqs=8)
        self.vllm_config = types.SimpleNamespace(scheduler_config=scheduler)

    def get_tokenizer(self):
        encode = lambda text, add_special_tokens=True: list(map(ord, text))  # noqa: E731
        render = lambda messages, **_: f"U:{messages[0]['content']}A:<t>\n"  # noqa: E731
        return types.SimpleNamespace(
            encode=encode,
            apply_chat_template=render,
            decode=lambda ids, skip_special_tokens: "".join(map(chr, ids)),
        )

    def add_request(self, label, prompt, parameters):
        self.added.append((label, prompt["prompt_token_ids"], parameters))

    def step(self):
        label, ids, parameters = self.added.pop()
        logprob = types.SimpleNamespace(logprob=-0.5)
        completions = [
            types.SimpleNamespace(
                index=i,
                text=f"{chr(ids[0])}{parameters.seed + i}",
                token_ids=[ids[0]],
                cumulative_logprob=-0.5,
                logprobs=[{ids[0]: logprob}],
                finish_reason="stop",
            )
            for i in reversed(range(parameters.n))
        ]
        unfinished = types.SimpleNamespace(request_id=label, finished=False, outputs=[])
        done = types.SimpleNamespace(request_id=label, finished=True, outputs=completions)
        return [unfinished, done]

    def abort_request(self, labels):
        self.aborted += labels


@pytest.fixture
def stand_in(monkeypatch):
    """Modules `vllm` and `torch` that load no library."""
    vllm = types.ModuleType("vllm")
    vllm.LLM, vllm.SamplingParams, vllm.__version__ = Llm, Parameters, "0"
    vllm.sampling_params = types.SimpleNamespace(
        RequestOutputKind=types.SimpleNamespace(FINAL_ONLY="final")
    )
    vllm.config = types.ModuleType("vllm.config")
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_available=lambda: True)
    reasoning = types.ModuleType("vllm.config.reasoning")
    for module in (vllm, vllm.config, reasoning, torch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return vllm


def test_vllm_is_asked_as_it_wants_to_be(stand_in):
    backend = VllmBackend("m", thought=(":", "="))
    assert backend._arguments["reasoning_config"] == {
        "reasoning_start_str": ":",
        "reasoning_end_str": "=",
    }
    assert backend.thought_marks == MARKS
    sampling = Sampling(n=2, max_tokens=9, thinking_budget=5)
    tickets = [
        backend.submit(Request(("a:", "b:  "), sampling, (0, 1 << 16))),
        backend.submit(Request(("c:",), dataclasses.replace(sampling, thinking_budget=None), (7,))),
    ]
    asked = [parameters for _, _, parameters in backend._llm.added]
    # two blanks after the marker count as thought for the engine, and not for us
    assert [getattr(p, "thinking_token_budget", None) for p in asked] == [5, 7, None]
    assert {p.output_kind for p in asked} == {"final"}
    assert [backend.advance() for _ in range(3)] == [
        [(tickets[1], [_texts("c7", "c8")])],
        [],
        [(tickets[0], [_texts("a0", "a1"), _texts("b65536", "b65537")])],
    ]
    assert backend.advance() == []
    assert backend.lanes(4) == 4  # eight seats, twice
    drawn = backend.generate(["x:", "y:"], Sampling(n=2), [0, 10])
    assert drawn == [_texts("x0", "x1"), _texts("y10", "y11")]
    backend.submit(Request(("z:",), Sampling(), (0,)))
    backend.abandon()
    assert len(backend._llm.aborted) == 1
    assert backend.advance() == []


def _texts(*texts):
    return [Sample(t, 1, -0.5, "stop", (ord(t[0]),), (-0.5,)) for t in texts]


def test_a_prompt_that_does_not_open_the_thought_is_refused(stand_in):
    backend = VllmBackend("m", thought=("<t>", "="))
    sampling = Sampling(thinking_budget=5)
    with pytest.raises(RuntimeError, match="set thought_start"):
        backend.submit(Request(("2+2?",), sampling, (0,)))
    backend.submit(Request((Begun(QUESTION, "<t>\n"),), sampling, (0,)))
    assert backend._llm.added[-1][2].thinking_token_budget == 6  # the line break


@pytest.mark.parametrize("lacks", ["parameter", "module", "single token"])
def test_a_vllm_without_budgets_goes_in_two_phases(stand_in, monkeypatch, lacks):
    end = "=="[: 2 if lacks == "single token" else 1]
    if lacks == "parameter":
        monkeypatch.setattr(Parameters, "__struct_fields__", ("n",))
    if lacks == "module":
        monkeypatch.setitem(sys.modules, "vllm.config.reasoning", None)
    backend = VllmBackend("m", thought=(":", end))
    assert backend.thought_marks is None
    dial = dataclasses.replace(DIAL, thought_end=end).on(backend)
    assert dial.marks is None


def test_a_campaign_tells_vllm_how_thoughts_are_marked(tmp_path):
    """Only where a dial can use it."""
    thinking = {"end": "</think>", "prefix": "", "answer_tokens": 64}
    task = TaskSpec("chains", 2, options={"thinking": thinking, "stop": []})

    def options(backend="vllm", **changes):
        providers = {"m": ProviderSpec("org/m", backend)}
        dials = {"b": DialSpec(samples=2, budgets=[0, 8], **changes)}
        campaign = Campaign(tmp_path, providers, {"t": task}, dials)
        jobs = campaign.jobs(campaign.load_tasks())
        return run._backend_options(campaign.providers["m"], jobs)

    assert options() == {"thought": ["<think>", "</think>"]}
    assert options(engine_budgets=False) == {}
    assert options("transformers") == {}
    assert options(coupled=True) == {}
