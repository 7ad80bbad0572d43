"""Any server that speaks the OpenAI API (`vllm serve`, SGLang, llama.cpp, hosted ones): concurrent,
patient, and polite.

Standard library only. Requests run in threads; a failed one is tried again with growing pauses, and
a rate limit spaces them out.

Why neither the `openai` client nor httpx with tenacity: sending, trying again and spacing out are
the 70 lines at the end of the class. The rest (which parameters are sent, the tokens of each
sample, answers that have begun, by the server's `/tokenize`) is what none of them does. The
`openai` client spaces no requests out, sleeps between tries where Ctrl-C of a whole run cannot
reach its threads, and follows redirects unless it is given another HTTP client. httpx with tenacity
would take the place of some 40 lines, and every machine that measures would need both.
"""

from __future__ import annotations

import json
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ttc_env.measure.backends.base import (
    Begun,
    Prompt,
    Sample,
    Sampling,
    check_seeds,
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib follows a redirect with all headers, the key included, to whatever host it names."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> NoReturn:
        fp.close()
        here, there = where(req.full_url), where(newurl)
        raise Redirected(
            f"{here} redirects to {there} (HTTP {code}), which is not followed, because it would"
            " get the API key; give the server's final address as base_url"
        )


class Redirected(RuntimeError):
    """The server points elsewhere."""


def where(url: str) -> str:
    """Scheme, host and port of an address: nothing of it that can hold a secret (a user, a
    password, a token in the path or the query).
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # what may be different next time


class OpenAIServer:
    """A model behind `{base_url}/chat/completions` (messages) and `{base_url}/completions` (plain
    prompts).

    Args:
        model: the name that the server knows the model by.
        base_url: up to and with `/v1`.
        api_key: by default from the environment variable OPENAI_API_KEY; a local server needs none.
        concurrency: requests under way at once.
        requests_per_minute: rate limit; none by default.
        retries: further tries of one request before giving up (the run can be resumed).
        timeout: seconds for one request.
        samples_per_request: samples asked for at once. None: all n of a prompt, which lets the
            server compute the prompt once, and needs a server that returns log-probabilities (token
            counts of single samples come from them). 1 works with every server.
        revision, weights: recorded in the trace, as a server does not say.
        chat_template_kwargs: what the server's chat template takes besides messages, such as
            {"enable_thinking": false} (vLLM, SGLang).
        openai_only: leave out what OpenAI's own API does not know (top_k, min_p,
            repetition_penalty, chat_template_kwargs); a server then uses hidden defaults of its
            own for them. By default everything is sent, so that no default is hidden.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "http://localhost:8000/v1",
        api_key: str | None = None,
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        retries: int = 6,
        timeout: float = 600.0,
        samples_per_request: int | None = None,
        revision: str | None = None,
        weights: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        openai_only: bool = False,
    ) -> None:
        if (
            concurrency < 1
            or retries < 0
            or (requests_per_minute is not None and requests_per_minute <= 0)
        ):
            raise ValueError(
                "concurrency must be at least 1, retries at least 0, requests_per_minute positive"
            )
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "base_url must be an address such as http://localhost:8000/v1, up to and with /v1"
            )
        if parts.username or parts.password:
            raise ValueError(
                f"base_url for {where(base_url)} holds a user or a password; give the key in the"
                " environment variable OPENAI_API_KEY"
            )
        self.model, self.base_url = model, base_url.rstrip("/")
        # for messages and records, without what may be secret in it
        self.address = where(base_url)
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY")
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        self.samples_per_request, self.revision, self.weights = (
            samples_per_request,
            revision,
            weights,
        )
        self._template, self.openai_only = dict(chat_template_kwargs or {}), openai_only
        if openai_only and self._template:
            raise ValueError(
                "chat_template_kwargs is no part of OpenAI's own API; drop openai_only"
            )
        self._pause = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next_start = 0.0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._slots = threading.BoundedSemaphore(concurrency)
        self._rendered: dict[str, tuple[int, ...]] = {}  # by messages and opening

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "openai",
            "model": self.model,
            "revision": self.revision,
            "weights": self.weights,
            "dtype": None,
            "versions": {},
            "hardware": self.address,
            # a trace from before every parameter was sent had the server's hidden defaults
            "settings": {
                "sent": "openai" if self.openai_only else "all",
                **({"chat_template_kwargs": self._template} if self._template else {}),
            },
        }

    def lanes(self, n: int) -> int:
        """Questions of n samples to ask side by side for `concurrency` requests under way."""
        requests = -(-n // min(self.samples_per_request or n, n))
        return -(-self.concurrency // requests)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        check_seeds(prompts, seeds, sampling.n)
        at_once = min(self.samples_per_request or sampling.n, sampling.n)
        jobs = [
            (prompt, seed + first, min(at_once, sampling.n - first))
            for prompt, seed in zip(prompts, seeds, strict=True)
            for first in range(0, sampling.n, at_once)
        ]
        parts = self._all(jobs, sampling)
        flat = iter(sample for part in parts for sample in part)
        return [[next(flat) for _ in range(sampling.n)] for _ in prompts]

    def _all(
        self, jobs: Sequence[tuple[Prompt, int, int]], sampling: Sampling
    ) -> list[list[Sample]]:
        """The answers to all jobs, in order. Threads are daemons: an interrupted program ends at
        once, and not when the last request that is under way is answered or times out.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in range(len(jobs)):
            waiting.put(i)
        done: queue.SimpleQueue[tuple[int, list[Sample] | BaseException]] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            while not (stop.is_set() or self._closed.is_set()):
                try:
                    i = waiting.get_nowait()
                except queue.Empty:
                    return
                prompt, seed, n = jobs[i]
                try:
                    done.put((i, self._request(prompt, seed, n, sampling, stop)))
                except BaseException as error:
                    done.put((i, error))

        for _ in range(min(self.concurrency, len(jobs))):
            threading.Thread(target=work, daemon=True).start()
        parts: dict[int, list[Sample]] = {}
        try:
            while len(parts) < len(jobs):
                try:
                    i, answer = done.get(timeout=0.5)  # so that Ctrl-C is seen everywhere
                except queue.Empty:
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                parts[i] = answer
        finally:
            stop.set()
        return [parts[i] for i in range(len(jobs))]

    def _request(
        self, prompt: Prompt, seed: int, n: int, sampling: Sampling, stop: threading.Event
    ) -> list[Sample]:
        body: dict[str, Any] = {
            "model": self.model,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            **self._further(sampling),
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(prompt, Begun):
            path = "/completions"
            body |= {"prompt": self._begun(prompt, stop), "logprobs": 0}
        elif isinstance(prompt, str):
            path = "/completions"
            body |= {"prompt": prompt, "logprobs": 0}
        else:
            path = "/chat/completions"
            body |= {"messages": list(prompt), "logprobs": True}
            if self._template:
                body["chat_template_kwargs"] = self._template
            # understood by vLLM and SGLang: go on with this message, begin no new one
            if prompt[-1]["role"] == "assistant":
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        answer = self._post(path, body, stop)
        samples = [
            self._sample(choice, answer, n)
            for choice in sorted(answer["choices"], key=lambda c: c["index"])
        ]
        if len(samples) != n:
            raise RuntimeError(
                f"{self.address} returned {len(samples)} of {n} samples; set samples_per_request=1"
            )
        return samples

    def _further(self, sampling: Sampling) -> dict[str, Any]:
        """All that decides the samples besides temperature and top_p, whether it is on or off: what
        is not sent, a server takes from the model's generation_config.json.
        """
        further = sampling.further()
        known = {name: further[name] for name in ("presence_penalty", "frequency_penalty")}
        if not self.openai_only:
            # -1: all tokens, in every version of vLLM and SGLang
            more = {"top_k": sampling.top_k or -1, "return_token_ids": True}
            rest = {name: further[name] for name in ("min_p", "repetition_penalty")}
            return {**known, **rest, **more}
        if sampling.top_k or sampling.min_p or sampling.repetition_penalty != 1.0:
            raise ValueError(
                "top_k, min_p and repetition_penalty are no part of OpenAI's own API; drop"
                " openai_only, or these settings"
            )
        return known

    def _begun(self, prompt: Begun, stop: threading.Event) -> list[int]:
        """The tokens of an answer that has begun, by the server's own tokenizer: its `/tokenize`
        (vLLM) renders the messages with their generation prompt.
        """
        key = json.dumps([prompt.messages, prompt.opening])
        with self._lock:
            rendered = self._rendered.get(key)
        if rendered is None:
            request = {
                "model": self.model,
                "messages": list(prompt.messages),
                "add_generation_prompt": True,
                **({"chat_template_kwargs": self._template} if self._template else {}),
            }
            ids = self._tokenize(request, stop)
            tail = self._detokenize(ids[-16:], stop) if prompt.opening else ""
            if prompt.opening and not tail.rstrip().endswith(prompt.opening.strip()):
                ids = ids + self._encode(prompt.opening, stop)
            rendered = tuple(ids)
            with self._lock:
                self._rendered[key] = rendered
        return [*rendered, *(prompt.tokens or ()), *self._encode(prompt.text, stop)]

    def _encode(self, text: str, stop: threading.Event) -> list[int]:
        if not text:
            return []
        request = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return self._tokenize(request, stop)

    def _tokenize(self, request: dict[str, Any], stop: threading.Event) -> list[int]:
        try:
            return [int(i) for i in self._post("/../tokenize", request, stop)["tokens"]]
        except (RuntimeError, KeyError, TypeError) as error:
            raise RuntimeError(
                f"thinking budgets need a server with vLLM's /tokenize ({error}); serve the model"
                " with `vllm serve`, or use --backend vllm"
            ) from None

    def _detokenize(self, ids: Sequence[int], stop: threading.Event) -> str:
        request = {"model": self.model, "tokens": list(ids)}
        return str(self._post("/../detokenize", request, stop)["prompt"])

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._detokenize(token_ids, threading.Event())

    def _sample(self, choice: dict[str, Any], answer: dict[str, Any], n: int) -> Sample:
        text = choice["text"] if "text" in choice else choice["message"]["content"] or ""
        stored = choice.get("logprobs") or {}
        values = stored.get("token_logprobs")
        if values is None and stored.get("content") is not None:
            values = [token["logprob"] for token in stored["content"]]
        if values is not None:
            tokens = len(values)
        elif n == 1:
            tokens = answer["usage"]["completion_tokens"]
        else:
            raise RuntimeError(
                f"{self.address} returns no log-probabilities, so the tokens of {n} samples in one"
                " reply cannot be told apart; set samples_per_request=1"
            )
        ids = choice.get("token_ids")
        return Sample(
            text,
            tokens,
            None if values is None else float(sum(values)),
            "length" if choice["finish_reason"] == "length" else "stop",
            None if ids is None else tuple(ids),
        )

    def _post(self, path: str, body: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        url = self.base_url + path
        if path.startswith("/.."):  # beside /v1
            url = self.base_url.removesuffix("/v1") + path.removeprefix("/..")
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            self._wait_for_turn(stop)
            if stop.is_set() or self._closed.is_set():
                raise RuntimeError("stopped")
            try:
                with self._slots, self._opener.open(request, timeout=self.timeout) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                with error:
                    problem, after = (
                        f"HTTP {error.code}: {self._redacted(error.read(500))}",
                        error.headers.get("Retry-After"),
                    )
                if error.code not in RETRIED:
                    raise RuntimeError(
                        f"{self.address}{path} refused the request ({problem})"
                    ) from None
            except (
                urllib.error.URLError,
                TimeoutError,
                ConnectionError,
                json.JSONDecodeError,
            ) as error:
                problem, after = str(error), None
            if attempt < self.retries:
                stop.wait(_seconds(after) if after else self._back_off(attempt))
        raise RuntimeError(
            f"{self.address}{path} failed {self.retries + 1} times, last with {problem}; start the"
            " run again to resume it"
        )

    def _redacted(self, reply: bytes) -> str:
        """A server's own words, without the key: some repeat it."""
        text = reply.decode(errors="replace")
        return text.replace(self._key, "***") if self._key else text

    @staticmethod
    def _back_off(attempt: int) -> float:
        """Doubling pauses up to a minute, with noise so that threads do not come back together."""
        return min(60.0, 0.5 * 2.0**attempt) * (0.5 + random.random())

    def _wait_for_turn(self, stop: threading.Event) -> None:
        if not self._pause:
            return
        with self._lock:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + self._pause
        stop.wait(max(0.0, start - time.monotonic()))

    def close(self) -> None:
        """Start no further request."""
        self._closed.set()


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds; its date form is rare and gets a fixed pause."""
    try:
        return min(120.0, float(retry_after))
    except ValueError:
        return 10.0
