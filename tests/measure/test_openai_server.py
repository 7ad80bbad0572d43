"""The client against a small server on this machine that fails, throttles and answers as real ones
do.
"""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ttc_env.measure.backends.base import SEED_STRIDE, Sampling
from ttc_env.measure.backends.openai_server import OpenAIServer


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, failures=(), logprobs=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures, self.logprobs = list(failures), logprobs
        self.requests, self.times, self.busy, self.most_busy = [], [], 0, 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1/"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append((self.path, body, self.headers.get("Authorization")))
            server.times.append(time.monotonic())
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
            failure = server.failures.pop(0) if server.failures else None
        time.sleep(0.02)
        with server.lock:
            server.busy -= 1
        if isinstance(failure, str):
            self.reply(302, b"", {"Location": failure})
            return
        if failure is not None:
            self.reply(failure, b'{"error": "no", "key": "secret"}', {"Retry-After": "0.05"})
            return
        choices = []
        for j in range(body["n"]):
            text = f"{body['seed'] + j}"
            choice = {"index": j, "finish_reason": "length" if j == 1 else "stop"}
            if "prompt" in body:
                choice |= {
                    "text": text,
                    "logprobs": {"token_logprobs": [-0.5, -0.25]} if server.logprobs else None,
                }
            else:
                content = [{"token": "x", "logprob": -1.0}] * 3
                choice |= {
                    "message": {"content": text},
                    "logprobs": {"content": content} if server.logprobs else None,
                }
            choices.insert(0, choice)  # out of order
        self.reply(
            200, json.dumps({"choices": choices, "usage": {"completion_tokens": 7}}).encode(), {}
        )

    def reply(self, code, data, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve():
    servers = []

    def start(**options):
        server = Server(**options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_plain_prompts_in_order_with_their_own_seeds(serve):
    server = serve()
    backend = OpenAIServer("m", base_url=server.url, concurrency=4, api_key="secret")
    seeds = [i * SEED_STRIDE for i in range(8)]
    drawn = backend.generate([f"p{i}" for i in range(8)], Sampling(n=2, stop=(".",)), seeds)
    assert [[s.text for s in row] for row in drawn] == [[str(s), str(s + 1)] for s in seeds]
    assert drawn[0][0].tokens == 2
    assert drawn[0][0].logprob == -0.75
    assert [s.finish for s in drawn[0]] == ["stop", "length"]
    assert 1 < server.most_busy <= 4
    assert {path for path, _, _ in server.requests} == {"/v1/completions"}
    assert {key for _, _, key in server.requests} == {"Bearer secret"}


def test_messages_and_a_continued_answer(serve):
    server = serve()
    backend = OpenAIServer("m", base_url=server.url)
    question = {"role": "user", "content": "?"}
    drawn = backend.generate(
        [(question,), (question, {"role": "assistant", "content": "so"})],
        Sampling(n=1),
        [0, SEED_STRIDE],
    )
    assert drawn[0][0].tokens == 3
    bodies = {len(body["messages"]): body for _, body, _ in server.requests}
    assert "continue_final_message" not in bodies[1]
    assert bodies[2]["continue_final_message"] is True
    assert bodies[2]["add_generation_prompt"] is False


def test_passing_failures_are_tried_again(serve):
    server = serve(failures=[429, 503, 500])
    assert (
        OpenAIServer("m", base_url=server.url, concurrency=1)
        .generate(["p"], Sampling(n=1), [5])[0][0]
        .text
        == "5"
    )
    assert len(server.requests) == 4


def test_lasting_failures_are_told(serve):
    server = serve(failures=[503] * 3)
    with pytest.raises(RuntimeError, match=r"failed 3 times.*503.*resume"):
        OpenAIServer("m", base_url=server.url, retries=2).generate(["p"], Sampling(n=1), [5])
    with pytest.raises(RuntimeError, match=r"refused the request.*400"):
        OpenAIServer("m", base_url=serve(failures=[400]).url).generate(["p"], Sampling(n=1), [5])


def test_nobody_there(serve):
    with pytest.raises(RuntimeError, match="failed 1 times"):
        OpenAIServer("m", base_url="http://127.0.0.1:9/v1", retries=0).generate(
            ["p"], Sampling(n=1), [5]
        )


def test_rate_limit(serve, monkeypatch):
    """Five starts are 0.1 s apart, on a clock that waiting alone moves."""

    class Clock:
        now = 0.0

        def wait(self, seconds):
            self.now += seconds

    clock, starts = Clock(), []
    client = OpenAIServer("m", base_url=serve().url, requests_per_minute=600)
    monkeypatch.setattr("ttc_env.measure.backends.openai_server.time.monotonic", lambda: clock.now)
    for _ in range(5):
        client._wait_for_turn(clock)
        starts.append(clock.now)
    assert starts == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_rate_limited_requests_are_all_answered(serve):
    server = serve()
    OpenAIServer("m", base_url=server.url, requests_per_minute=6000).generate(
        ["p"] * 5, Sampling(n=1), [i * SEED_STRIDE for i in range(5)]
    )
    assert len(server.times) == 5


def test_without_logprobs_samples_are_asked_for_one_by_one(serve):
    server = serve(logprobs=False)
    with pytest.raises(RuntimeError, match="samples_per_request=1"):
        OpenAIServer("m", base_url=server.url).generate(["p"], Sampling(n=3), [0])
    drawn = OpenAIServer("m", base_url=server.url, samples_per_request=1).generate(
        ["p"], Sampling(n=3), [0]
    )
    assert [(s.text, s.tokens, s.logprob) for s in drawn[0]] == [
        ("0", 7, None),
        ("1", 7, None),
        ("2", 7, None),
    ]


def test_a_redirect_does_not_carry_the_key_elsewhere(serve):
    """urllib would send the Authorization header to whatever host the reply names."""
    other = serve()
    server = serve(failures=[other.url + "completions"])
    backend = OpenAIServer("m", base_url=server.url, api_key="secret", retries=3)
    with pytest.raises(RuntimeError, match=r"redirects to http://127\.0\.0\.1:.* not followed"):
        backend.generate(["p"], Sampling(n=1), [5])
    assert other.requests == []
    assert len(server.requests) == 1  # and it is not tried again


def test_nothing_secret_is_recorded_or_printed(serve):
    url = serve(failures=[400]).url.replace("/v1/", "/token-abc/v1?key=def")
    backend = OpenAIServer("m", base_url=url, api_key="secret")
    with pytest.raises(RuntimeError) as caught:
        backend.generate(["p"], Sampling(n=1), [5])
    for text in (json.dumps(backend.describe()), str(caught.value)):
        assert not [word for word in ("secret", "token-abc", "def") if word in text]
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as refused:
        OpenAIServer("m", base_url="http://user:hunter2@localhost/v1")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match="base_url must be an address"):
        OpenAIServer("m", base_url="localhost:8000")


def test_every_sampling_parameter_is_sent_and_recorded(serve):
    """A parameter that is not sent is taken from the model's generation_config.json, silently."""
    server = serve()
    backend = OpenAIServer(
        "m", base_url=server.url, chat_template_kwargs={"enable_thinking": False}
    )
    message = ({"role": "user", "content": "?"},)
    backend.generate([message], Sampling(n=1), [0])
    _, body, _ = server.requests[-1]
    assert {
        name: body[name]
        for name in (
            "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
            "repetition_penalty", "chat_template_kwargs",
        )
    } == {
        "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "repetition_penalty": 1.0,
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    chosen = Sampling(n=1, top_k=20, min_p=0.05, repetition_penalty=1.05)
    backend.generate([message], chosen, [0])
    assert server.requests[-1][1]["top_k"] == 20
    assert chosen.settings()["top_k"] == 20
    assert "top_k" not in Sampling().settings()  # old traces can be continued
    assert backend.describe()["settings"] == {
        "sent": "all",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    own = OpenAIServer("m", base_url=server.url, openai_only=True)
    own.generate([message], Sampling(n=1), [0])
    assert "top_k" not in server.requests[-1][1]
    with pytest.raises(ValueError, match="OpenAI's own API"):
        own.generate([message], chosen, [0])
    with pytest.raises(ValueError, match="top_k"):
        Sampling(top_k=-1)


def test_an_interrupted_run_ends_at_once():
    """Threads that wait for a slow server must not keep the process alive (it took ten minutes)."""
    program = (
        "import os, signal, socket, threading\n"
        "from ttc_env.measure.backends.base import Sampling\n"
        "from ttc_env.measure.backends.openai_server import OpenAIServer\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "backend = OpenAIServer('m', base_url=f'http://127.0.0.1:{silent.getsockname()[1]}/v1')\n"
        # A shell that runs tests in the background hands an ignored SIGINT down to them.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    backend.generate(['p'], Sampling(n=1), [0])\n"
        "except KeyboardInterrupt:\n    print('stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.stdout.strip() == "stopped", done.stderr


def test_lanes_keep_the_server_busy_and_no_more():
    for concurrency, at_once, n, lanes in (
        (16, None, 64, 16),  # one request a question
        (16, 1, 64, 1),  # 64 requests a question: one question fills it
        (16, 1, 1, 16),
        (16, 4, 8, 8),
    ):
        backend = OpenAIServer("m", concurrency=concurrency, samples_per_request=at_once)
        assert backend.lanes(n) == lanes
