"""Thinking budgets with the chat templates of reasoning models. They strip the thought from an
assistant's message, or close it, so that a thought must never be rendered as a message again.

The templates here are cut to what matters of DeepSeek-R1's and Qwen3's.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ttc_env.measure.backends.base import Begun, Sample, Sampling, prompt_ids
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.backends.openai_server import OpenAIServer
from ttc_env.measure.dials import Closing, CoupledBudgets, ThinkingBudget

R1 = (
    "{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}{% set content = m.content %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|Assistant|>{{ content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and '</think>' in m.content %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
QUESTION = ({"role": "user", "content": "2+2?"},)


class Tokenizer:
    """Every character is a token; renders like transformers, which refuses to go on with a last
    message that the template does not print as it stands.
    """

    def __init__(self, template):
        jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed")
        self.template = jinja2.Environment().from_string(template)

    def encode(self, text, add_special_tokens=True):
        assert not add_special_tokens, "the template has written them already"
        return list(map(ord, text))

    def decode(self, ids, **_):
        return "".join(map(chr, ids))

    def apply_chat_template(
        self, messages, tokenize, add_generation_prompt, continue_final_message=False, **more
    ):
        text = self.template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, **more
        )
        if continue_final_message:
            last = messages[-1]["content"].strip()
            if last not in text:
                raise ValueError("continue_final_message is set but the final message is not there")
            text = text[: text.rindex(last) + len(last)]
        return text


class Engine(FakeBackend):
    """Thinks "abcdef..." until its budget, and answers "4"; keeps its prompts as rendered."""

    def __init__(self, template, thought="abcdefghij", **options):
        super().__init__("m")
        self.tokenizer, self.thought, self.options = Tokenizer(template), thought, options
        self.prompts = []

    def generate(self, prompts, sampling, seeds):
        rows = []
        for prompt in prompts:
            ids = prompt_ids(self.tokenizer, prompt, self.options)
            self.prompts.append(self.tokenizer.decode(ids))
            if sampling.stop == ("</think>",):
                text = self.thought[: sampling.max_tokens]
                whole = len(text) == len(self.thought) < sampling.max_tokens
                written = text + ("</think>" if whole else "")
                sample = Sample(
                    text,
                    len(text) + whole,
                    -1.0,
                    "stop" if whole else "length",
                    tuple(map(ord, written)),
                )
            else:
                sample = Sample("4", 2, -1.0, "stop", (ord("4"),))
            rows.append([sample] * sampling.n)
        return rows


R1_DIAL = ThinkingBudget(Sampling(n=1), 4, "</think>", 8, "\n\nAnswer:")


def test_the_old_way_breaks_on_r1s_template():
    """What was done before: the thought as an assistant message. This is why it crashed."""
    message = {"role": "assistant", "content": "abcd</think>\n\nAnswer:"}
    with pytest.raises(ValueError, match="final message is not there"):
        Tokenizer(R1).apply_chat_template(
            [*QUESTION, message], tokenize=False, add_generation_prompt=False,
            continue_final_message=True,
        )  # fmt: skip


@pytest.mark.parametrize("thought, kept", [("abcdefghij", "abcd"), ("ab", "ab")])
def test_r1(thought, kept):
    engine = Engine(R1, thought)
    drawn = R1_DIAL.draw(engine, [QUESTION], [0])
    opened = "<|User|>2+2?<|Assistant|><think>\n"
    assert engine.prompts == [opened, f"{opened}{kept}</think>\n\nAnswer:"]
    assert drawn[0][0].text == f"{kept}</think>\n\nAnswer:4"


def test_qwen3_opens_its_thought_where_the_template_does_not():
    engine = Engine(QWEN3)
    dial = ThinkingBudget(Sampling(n=1), 4, "</think>", 8, "\n\n", thought_start="<think>\n")
    dial.draw(engine, [QUESTION], [0])
    start = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert engine.prompts == [f"{start}<think>\n", f"{start}<think>\nabcd</think>\n\n"]
    assert dial.settings()["thought_start"] == "<think>\n"
    # an opening that the template writes is not written twice
    engine = Engine(R1)
    dial.draw(engine, [QUESTION], [0])
    assert engine.prompts[0].count("<think>") == 1


def test_template_arguments_reach_the_template():
    engine = Engine(QWEN3, enable_thinking=False)
    engine.generate([QUESTION], Sampling(), [0])
    assert engine.prompts[0].endswith("<think>\n\n</think>\n\n")


def test_a_budget_of_nothing_goes_straight_to_the_answer():
    engine = Engine(R1)
    ThinkingBudget(Sampling(n=1), 0, "</think>", 8).draw(engine, [QUESTION], [0])
    assert engine.prompts == ["<|User|>2+2?<|Assistant|><think>\n</think>"]


def test_coupled_budgets_cut_one_thought():
    engine = Engine(R1, "abcdef")
    dial = CoupledBudgets(Sampling(n=2), (0, 2, 4, 8, 16), Closing("</think>", 8, " A:"))
    (row,) = dial.draw(engine, [QUESTION], [0])
    opened = "<|User|>2+2?<|Assistant|><think>\n"
    # one thought for both samples; the fourth and fifth budget hold all of it: answered once
    answers = [f"{opened}{text}</think> A:" for text in ("", "ab", "abcd", "abcdef")]
    assert engine.prompts == [opened, *answers, *answers]
    assert [d.budget for d in row] == [0, 2, 4, 8, 16] * 2
    assert [d.thinking_tokens for d in row] == [0, 2, 4, 7, 7] * 2
    assert dial.most_tokens == 2 * (16 + 5 * 8)
    with pytest.raises(ValueError, match="rising order"):
        CoupledBudgets(Sampling(), (4, 2), Closing("x", 1))


def test_coupled_budgets_need_tokens():
    class Silent(Engine):
        def generate(self, *arguments):
            rows = super().generate(*arguments)
            return [[Sample(s.text, s.tokens, None, s.finish) for s in row] for row in rows]

    dial = CoupledBudgets(Sampling(n=1), (2, 4), Closing("</think>", 8))
    with pytest.raises(RuntimeError, match="does not tell its tokens"):
        dial.draw(Silent(R1), [QUESTION], [0])


def test_a_server_renders_once_with_its_own_template():
    """`/tokenize` gives the rendered prompt; the thought's tokens go on as they are."""
    tokenizer, asked = Tokenizer(R1), []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            if self.path == "/tokenize":
                text = body.get("prompt")
                if text is None:
                    text = tokenizer.apply_chat_template(body["messages"], False, True)
                reply = {"tokens": tokenizer.encode(text, add_special_tokens=False)}
            elif self.path == "/detokenize":
                reply = {"prompt": tokenizer.decode(body["tokens"])}
            else:
                choice = {
                    "index": 0, "finish_reason": "length", "text": "abcd",
                    "token_ids": list(map(ord, "abcd")), "logprobs": {"token_logprobs": [-1.0] * 4},
                }  # fmt: skip
                reply = {"choices": [choice]}
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        backend = OpenAIServer("m", base_url=f"http://127.0.0.1:{server.server_port}/v1")
        prompt = Begun(QUESTION, "<think>\n", tuple(map(ord, "abcd")), "</think>")
        (row,) = backend.generate([prompt], Sampling(n=1), [0])
        assert row[0].token_ids == tuple(map(ord, "abcd"))
        sent = [body for path, body in asked if path == "/v1/completions"]
        assert tokenizer.decode(sent[0]["prompt"]) == (
            "<|User|>2+2?<|Assistant|><think>\nabcd</think>"
        )
        assert backend.decode(map(ord, "ab")) == "ab"
        before = len(asked)
        backend.generate([prompt], Sampling(n=1), [0])
        assert len(asked) - before == 2  # rendered once: only the tail and the completion are asked
    finally:
        server.shutdown()
        server.server_close()
