"""Scores of stored samples by a reward model: any Hugging Face sequence classifier.

Kept in a file of its own, beside the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ttc_env.measure.backends.base import Asked, MissingExtra, weights_hash
from ttc_env.measure.dials import extend
from ttc_env.measure.traces import Trace, TraceWriter, read_trace


class Scorer(Protocol):
    """Anything that gives a delivered answer a number, higher for better."""

    def describe(self) -> dict[str, Any]: ...

    def score(self, prompt: Asked, texts: Sequence[str]) -> list[float]: ...


class RewardModel:
    """A sequence classifier with one output (its score) or two (the difference of the second and
    the first).

    Args:
        model: a model folder or a hub name.
        revision: branch, tag or commit of a hub model.
        device: "cpu", "cuda", ...; a GPU if there is one, by default.
        batch: texts scored at once.
    """

    def __init__(
        self, model: str, *, revision: str | None = None, device: str | None = None, batch: int = 16
    ) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtra(
                "transformers (with torch)", "to score samples by a reward model"
            ) from error
        self._torch, self._version = torch, transformers.__version__
        self.model, self.revision, self.batch = model, revision, batch
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model, revision=revision)
        self._model: Any = (
            transformers.AutoModelForSequenceClassification.from_pretrained(
                model, revision=revision
            )
            .to(self.device)
            .eval()
        )
        if self._model.config.num_labels not in (1, 2):
            raise ValueError(
                f"{model} has {self._model.config.num_labels} outputs; a reward model has one, or"
                " two (worse, better)"
            )
        if self._model.config.pad_token_id is None:
            self.batch = 1  # rows of different length cannot be padded

    def describe(self) -> dict[str, Any]:
        return {
            "reward_model": Path(self.model).name,
            "revision": self.revision,
            "weights": weights_hash(Path(self.model)),
            "transformers": self._version,
        }

    def score(self, prompt: Asked, texts: Sequence[str]) -> list[float]:
        """One number for each text, delivered in answer to `prompt`."""
        scores: list[float] = []
        for start in range(0, len(texts), self.batch):
            full = [
                self._render(extend(prompt, text)) for text in texts[start : start + self.batch]
            ]
            inputs = self._tokenizer(
                full,
                return_tensors="pt",
                padding=self.batch > 1,
                add_special_tokens=isinstance(prompt, str),
            ).to(self.device)
            inputs.pop("token_type_ids", None)
            with self._torch.no_grad():
                logits = self._model(**inputs).logits.float()
            scores += (
                logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
            ).tolist()
        return scores

    def _render(self, prompt: Asked) -> str:
        return (
            prompt
            if isinstance(prompt, str)
            else self._tokenizer.apply_chat_template(list(prompt), tokenize=False)
        )


def score_trace(
    trace: Trace,
    scorer: Scorer,
    path: str | Path,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Trace:
    """Score every stored sample into `path` (JSON lines like a trace, resumable in the same way),
    and read it back.

    Equal texts of a question are scored once.

    Raises:
        TraceError: `path` holds another model's rewards, or another trace's.
    """
    settings = {"kind": "rewards", "trace": trace.settings, **scorer.describe()}
    with TraceWriter(path, settings, {}) as writer:
        for done, (question, record) in enumerate(trace.records.items()):
            report(done, len(trace.records))
            if question in writer.done:
                continue
            prompt = (
                record["prompt"] if isinstance(record["prompt"], str) else tuple(record["prompt"])
            )
            distinct = list(dict.fromkeys(record["samples"]["text"]))
            score = dict(zip(distinct, scorer.score(prompt, distinct), strict=True))
            writer.append(
                question,
                record["gold"],
                {"rewards": [score[text] for text in record["samples"]["text"]]},
            )
    report(len(trace.records), len(trace.records))
    return read_trace(path)
