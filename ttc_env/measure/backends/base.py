"""What a backend is: prompts and seeds in, samples with token counts and log-probabilities out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

Message: TypeAlias = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
# : Plain text is completed as it stands. Messages go through the model's chat template; if the last
# one is the assistant's, it is continued.
Prompt: TypeAlias = "str | tuple[Message, ...]"

# : Seeds of neighbouring prompts lie this far apart. vLLM gives sample j of a prompt the seed s +
# j, so two prompts whose seeds differ by : less than n would share noise, and their errors would be
# correlated.
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

    def __post_init__(self) -> None:
        if not 1 <= self.n <= SEED_STRIDE // 2:
            raise ValueError(f"n is {self.n}; it must lie in [1, {SEED_STRIDE // 2}]")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise ValueError(f"{self}: temperature must be >= 0, top_p in (0, 1], max_tokens >= 1")


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


class Backend(Protocol):
    """Anything that draws samples.

    Same prompts, sampling and seeds: same samples, as far as the engine can promise that.
    """

    model: str

    def describe(self) -> dict[str, Any]:
        """Facts for the trace's header: `model`, `weights` (must not change within a trace),
        `versions` and `hardware` (may).
        """
        ...

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        """`sampling.n` samples for each prompt; `seeds[i]` belongs to `prompts[i]`, sample j of it
        draws from `seeds[i] + j`.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory."""
        ...


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
    """sha256 over the weight files of a local model folder, names and contents in order; None if it
    holds none.
    """
    files = (
        sorted(p for pattern in ("*.safetensors", "*.bin", "*.gguf") for p in folder.glob(pattern))
        if folder.is_dir()
        else []
    )
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
