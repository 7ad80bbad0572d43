"""Any server that speaks the OpenAI API (`vllm serve`, SGLang, llama.cpp, hosted ones): concurrent,
patient, and polite.

Standard library only. Requests run in threads; a failed one is tried again with growing pauses, and
a rate limit spaces them out.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ttc_env.measure.backends.base import Prompt, Sample, Sampling, check_seeds

class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib follows a redirect with all headers, the key included, to whatever host it names."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> NoReturn:
        here, there = where(req.full_url), where(newurl)
        raise Redirected(
            f"{here} redirects to {there} (HTTP {code}), which is not followed, because it would get"
            " the API key; give the server's final address as base_url"
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
        self._pause = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next_start = 0.0
        self._lock = threading.Lock()

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "openai",
            "model": self.model,
            "revision": self.revision,
            "weights": self.weights,
            "dtype": None,
            "versions": {},
            "hardware": self.address,
        }

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
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            parts = list(
                pool.map(lambda job: self._request(job[0], job[1], job[2], sampling), jobs)
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        flat = iter(sample for part in parts for sample in part)
        return [[next(flat) for _ in range(sampling.n)] for _ in prompts]

    def _request(self, prompt: Prompt, seed: int, n: int, sampling: Sampling) -> list[Sample]:
        body: dict[str, Any] = {
            "model": self.model,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(prompt, str):
            path = "/completions"
            body |= {"prompt": prompt, "logprobs": 0}
        else:
            path = "/chat/completions"
            body |= {"messages": list(prompt), "logprobs": True}
            # understood by vLLM and SGLang: go on with this message, begin no new one
            if prompt[-1]["role"] == "assistant":
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        answer = self._post(path, body)
        samples = [
            self._sample(choice, answer, n)
            for choice in sorted(answer["choices"], key=lambda c: c["index"])
        ]
        if len(samples) != n:
            raise RuntimeError(
                f"{self.address} returned {len(samples)} of {n} samples; set samples_per_request=1"
            )
        return samples

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
        return Sample(
            text,
            tokens,
            None if values is None else float(sum(values)),
            "length" if choice["finish_reason"] == "length" else "stop",
        )

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        request = urllib.request.Request(self.base_url + path, json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            self._wait_for_turn()
            try:
                with self._opener.open(request, timeout=self.timeout) as reply:
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
                time.sleep(_seconds(after) if after else self._back_off(attempt))
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

    def _wait_for_turn(self) -> None:
        if not self._pause:
            return
        with self._lock:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + self._pause
        time.sleep(max(0.0, start - time.monotonic()))

    def close(self) -> None:
        """Nothing to free."""


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds; its date form is rare and gets a fixed pause."""
    try:
        return min(120.0, float(retry_after))
    except ValueError:
        return 10.0
