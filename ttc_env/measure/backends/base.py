"""What a backend is: prompts and seeds in, samples with token counts and log-probabilities out."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Message: TypeAlias = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}


@dataclass(frozen=True)
class Begun:
    """Messages whose answer has begun: the model goes on after it.

    The messages are rendered once, with the template's generation prompt, and what has been
    written is appended as raw tokens. It is never rendered as a message: templates of reasoning
    models strip the thought out of an assistant's message, or close it.
    """

    messages: tuple[Message, ...]
    opening: str = ""  # put first, unless the generation prompt ends with it: "<think>\n"
    tokens: tuple[int, ...] | None = None  # sampled before, as they were sampled
    text: str = ""  # follows them


#: A question: plain text is completed as it stands, messages go through the chat template.
Asked: TypeAlias = "str | tuple[Message, ...]"
Prompt: TypeAlias = "Asked | Begun"

#: Seeds of neighbouring prompts lie this far apart. vLLM gives sample j of a prompt the seed s + j,
#: so two prompts whose seeds differ by less than n would share noise, and their errors would be
#: correlated.
SEED_STRIDE = 1 << 16


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    n: int = 1  # samples for each prompt
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    # generation ends where one of these appears; the string itself is not part of the text
    stop: tuple[str, ...] = ()
    top_k: int = 0  # the k most likely tokens alone; 0 for all
    min_p: float = 0.0  # least probability of a token, relative to the most likely one
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0  # 1 for none
    # the engine itself closes the thought after so many tokens; for backends with `thought_marks`
    thinking_budget: int | None = None

    def settings(self) -> dict[str, Any]:
        """What a trace's header records: what is off by default is named only where it is on, so
        that traces from before it existed can be continued.
        """
        return {
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            **{name: value for name, value in self.further().items() if value != _OFF[name]},
        }

    def further(self) -> dict[str, float]:
        """The settings that are off by default, whatever they are."""
        return {name: getattr(self, name) for name in _OFF}

    def __post_init__(self) -> None:
        if self.top_k < 0 or not 0 <= self.min_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(
                f"top_k is {self.top_k}, min_p {self.min_p}, repetition_penalty"
                f" {self.repetition_penalty}; top_k must be >= 0 (0 for all), min_p in [0, 1],"
                " repetition_penalty > 0"
            )
        if max(abs(self.presence_penalty), abs(self.frequency_penalty)) > 2:
            raise ValueError("presence_penalty and frequency_penalty must lie in [-2, 2]")
        if not 1 <= self.n <= SEED_STRIDE // 2:
            raise ValueError(f"n is {self.n}; it must lie in [1, {SEED_STRIDE // 2}]")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise ValueError(f"{self}: temperature must be >= 0, top_p in (0, 1], max_tokens >= 1")


_OFF = {
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    text: str
    # generated tokens, an end-of-sequence or stop token included: what a provider bills
    tokens: int
    # sum over those tokens of the model's own log-probability, before temperature and top_p; None
    # if unknown
    logprob: float | None
    finish: Literal["stop", "length"]  # "length": cut off at max_tokens
    # the generated tokens, where the engine tells them: what a thought is cut and continued by
    token_ids: tuple[int, ...] | None = None
    # of each of those tokens; asked for with a `thinking_budget` alone
    token_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of an engine at one time; `seeds[i]` belongs to `prompts[i]`."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class ThoughtMarks:
    """What opens and closes a thought, for engines with a thinking budget of their own."""

    start: str
    end: str
    end_id: int  # `end` is a single token


class Backend(Protocol):
    """Anything that draws samples.

    Same prompts, sampling and seeds: same samples, as far as the engine can promise that. An engine
    that can work on many requests at once is a `Stream` too; a server has `lanes` alone, and is
    asked from as many threads.
    """

    model: str

    def describe(self) -> dict[str, Any]:
        """Facts for the trace's header: `model`, `weights` (must not change within a trace),
        `versions` and `hardware` (may), and under `settings` whatever else of this engine decides
        the samples. Nothing secret: no key, no address beyond scheme, host and port.
        """
        ...

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        """`sampling.n` samples for each prompt; `seeds[i]` belongs to `prompts[i]`, sample j of it
        draws from `seeds[i] + j`.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens that this engine generated."""
        ...

    def close(self) -> None:
        """Free the engine's memory."""
        ...


@runtime_checkable
class Stream(Protocol):
    """A backend that is given requests as there is room for them, so that it is never idle while
    the slowest answer of a batch is written.
    """

    def lanes(self, n: int) -> int:
        """Questions of n samples to keep under way."""
        ...

    def submit(self, request: Request) -> int:
        """Begin; the ticket that its samples will bear."""
        ...

    def advance(self) -> list[tuple[int, list[list[Sample]]]]:
        """Work for a moment; what has ended since the last call, perhaps nothing."""
        ...

    def abandon(self) -> None:
        """Give up all that is under way."""
        ...


class OneByOne:
    """A stream for engines that work on one request at a time, in the order of submission."""

    def __init__(self) -> None:
        self._tickets = itertools.count()
        self._waiting: deque[tuple[int, Request]] = deque()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        raise NotImplementedError

    def lanes(self, n: int) -> int:
        return 1

    def submit(self, request: Request) -> int:
        ticket = next(self._tickets)
        self._waiting.append((ticket, request))
        return ticket

    def advance(self) -> list[tuple[int, list[list[Sample]]]]:
        if not self._waiting:
            return []
        ticket, request = self._waiting.popleft()
        return [(ticket, self.generate(request.prompts, request.sampling, request.seeds))]

    def abandon(self) -> None:
        self._waiting.clear()


def gather(
    stream: Stream, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
) -> list[list[Sample]]:
    """`Backend.generate` by a stream that has nothing else under way: a request a prompt."""
    check_seeds(prompts, seeds, sampling.n)
    place = {
        stream.submit(Request((prompt,), sampling, (seed,))): i
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    }
    drawn: list[list[Sample]] = [[] for _ in prompts]
    try:
        while place:
            for ticket, (samples,) in stream.advance():
                drawn[place.pop(ticket)] = samples
    except BaseException:
        stream.abandon()
        raise
    return drawn


def prompt_ids(tokenizer: Any, prompt: Prompt, template: Mapping[str, Any]) -> list[int]:
    """The tokens of a prompt, by a Hugging Face tokenizer; `template` are arguments of its chat
    template.
    """
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt))
    begun = prompt if isinstance(prompt, Begun) else Begun(prompt)
    messages = begun.messages
    continued = messages[-1]["role"] == "assistant"
    rendered = tokenizer.apply_chat_template(
        list(messages),
        tokenize=False,
        add_generation_prompt=not continued,
        continue_final_message=continued,
        **template,
    )
    # no special tokens: the template wrote them already
    return begun_ids(
        begun, rendered, lambda text: list(tokenizer.encode(text, add_special_tokens=False))
    )


def begun_ids(prompt: Begun, rendered: str, encode: Callable[[str], list[int]]) -> list[int]:
    """The tokens of messages that were `rendered` with their generation prompt, and of the answer
    that has begun. `encode` adds no special tokens.
    """
    opening = prompt.opening
    if opening and rendered.rstrip().endswith(opening.strip()):
        opening = ""
    if prompt.tokens is None:
        return encode(rendered + opening + prompt.text)
    return [*encode(rendered + opening), *prompt.tokens, *encode(prompt.text)]


def check_seeds(prompts: Sequence[Prompt], seeds: Sequence[int], n: int) -> None:
    """Raise unless there is one seed a prompt and no two prompts share a sample's seed."""
    if len(seeds) != len(prompts):
        raise ValueError(
            f"{len(seeds)} seeds for {len(prompts)} prompts; give one seed for each prompt"
        )
    ordered = sorted(seeds)
    for low, high in itertools.pairwise(ordered):
        if high - low < n:
            raise ValueError(
                f"seeds {low} and {high} are less than n = {n} apart, so two prompts would share"
                f" noise; space them by {SEED_STRIDE}"
            )


def question_seed(base: int, model: str, setting: str, index: int) -> int:
    """The seed of a task's question number `index`, the same on resume; other models and settings
    draw other noise.

    Without that, two models with one vocabulary would draw from the same random numbers, and their
    errors would be correlated.
    """
    if not 0 <= index < 1 << 20:
        raise ValueError(f"question index {index} does not lie in [0, {1 << 20}); split the task")
    block = int.from_bytes(hashlib.sha256(f"{base}|{model}|{setting}".encode()).digest()[:3], "big")
    return block * (SEED_STRIDE << 20) + index * SEED_STRIDE


def weights_hash(folder: Path) -> str | None:
    """As `_weights_hash`, computed once in a process for files that have not changed: it takes a
    minute for a large model, and is asked for with every trace.
    """
    files = _weight_files(folder)
    key = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    if key not in _hashes:
        _hashes[key] = _weights_hash(files)
    return _hashes[key]


_hashes: dict[tuple[tuple[str, int, int], ...], str | None] = {}


def _weight_files(folder: Path) -> list[Path]:
    patterns = ("*.safetensors", "*.bin", "*.gguf")
    return (
        sorted(p for pattern in patterns for p in folder.glob(pattern)) if folder.is_dir() else []
    )


def _weights_hash(files: Sequence[Path]) -> str | None:
    """sha256 over the weight files of a local model folder, names and contents in order; None if it
    holds none.
    """
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        if len(files) > 1:  # a single file's hash is the one that `sha256sum` prints
            digest.update(path.name.encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class MissingExtra(ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(
            f"{package} is needed {purpose}; install it with: pip install 'ttc-env[measure]'"
        )
