"""Scores of stored samples by a reward model: outcome or process.

Kept in a file of its own, beside the trace.
"""

from __future__ import annotations

import math
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


DTYPES = ("auto", "bfloat16", "float16", "float32")
KINDS = ("outcome", "process")
#: How the scores of steps become one.
REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,  # as good as its worst step
    "product": math.prod,  # the chance that all steps are right
    "last": lambda steps: steps[-1],
    "mean": lambda steps: sum(steps) / len(steps),
}


class RewardModel:
    """A reward model from the Hugging Face hub or a folder.

    `outcome`: one score for a whole answer. A sequence classifier with one output (its score) or
    two (the difference of the second and the first), or a model whose output has a `.score`, as
    ArmoRM has.

    `process`: one score for each step of an answer, brought together by `reduce`. A token
    classifier that says at every `mark` how likely the step before it is right (two outputs: wrong,
    right; Qwen2.5-Math-PRM and TRL's), or, with `good` and `bad`, a causal model that would
    continue with the one token or the other (Math-Shepherd).

    Args:
        model: a model folder or a hub name.
        revision: branch, tag or commit of a hub model.
        device: "cpu", "cuda", ...; a GPU if there is one, by default.
        batch: texts scored at once.
        dtype: "bfloat16" halves the memory of "float32"; "auto" is what the model was saved in.
        trust_remote_code: run the code that the model's repository brings. It can do whatever you
            can, so it is off unless you say so; pin a `revision` that you have read.
        kind: "outcome" or "process".
        split: what separates steps in an answer (process).
        mark: the token after each step at which its score is read (process).
        reduce: how the steps' scores become one: min, product, last or mean (process).
        good, bad: tokens of a causal process reward model.

    Raises:
        ValueError: an option that does not exist, or a model without a usable output.
        MissingExtra: transformers is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        batch: int = 16,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        kind: str = "outcome",
        split: str = "\n\n",
        mark: str = "<extra_0>",
        reduce: str = "min",
        good: str | None = None,
        bad: str | None = None,
    ) -> None:
        for name, value, known in (
            ("dtype", dtype, DTYPES),
            ("kind", kind, KINDS),
            ("reduce", reduce, tuple(REDUCTIONS)),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        if batch < 1 or not split or not mark:
            raise ValueError("batch must be at least 1, split and mark not empty")
        if (good is None) != (bad is None):
            raise ValueError("give both `good` and `bad`, or neither")
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtra(
                "transformers (with torch)", "to score samples by a reward model"
            ) from error
        self._torch, self._version = torch, transformers.__version__
        self.model, self.revision, self.batch, self.kind = model, revision, batch, kind
        self.split, self.mark, self.reduce, self.good, self.bad = split, mark, reduce, good, bad
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=trust_remote_code
        )
        if kind == "outcome":
            loader: Any = transformers.AutoModelForSequenceClassification
        elif good is not None:
            loader = transformers.AutoModelForCausalLM
        elif trust_remote_code:
            loader = transformers.AutoModel
        else:
            loader = transformers.AutoModelForTokenClassification
        loaded: Any = loader.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=trust_remote_code,
            **{_dtype_name(self._version): dtype if dtype == "auto" else getattr(torch, dtype)},
        )
        self._model = loaded.to(self.device).eval()
        self._dtype = str(self._model.dtype).removeprefix("torch.")
        if self._model.config.pad_token_id is None and kind == "outcome":
            self.batch = 1  # rows of different length cannot be padded

    def describe(self) -> dict[str, Any]:
        process = {
            "split": self.split,
            "mark": self.mark,
            "reduce": self.reduce,
            "good": self.good,
            "bad": self.bad,
        }
        return {
            "reward_model": Path(self.model).name,
            "revision": self.revision,
            "weights": weights_hash(Path(self.model)),
            "transformers": self._version,
            "dtype": self._dtype,
            **({"kind_of_reward": "process", **process} if self.kind == "process" else {}),
        }

    def score(self, prompt: Asked, texts: Sequence[str]) -> list[float]:
        """One number for each text, delivered in answer to `prompt`."""
        if self.kind == "process":
            return [REDUCTIONS[self.reduce](self.steps(prompt, text)) for text in texts]
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
                output = self._model(**inputs)
            scores += self._read(output).tolist()
        return scores

    def _read(self, output: Any) -> Any:
        """`[B]` scores of a batch."""
        score = getattr(output, "score", None)
        if score is not None:
            return score.float().reshape(-1)
        logits = output.logits.float()
        if logits.shape[1] not in (1, 2):
            raise ValueError(
                f"{self.model} has {logits.shape[1]} outputs and no `.score`; a reward model has"
                " one output, or two (worse, better)"
            )
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

    def steps(self, prompt: Asked, text: str) -> list[float]:
        """The chance that each step of a text is right, by a process reward model."""
        steps = [step for step in text.split(self.split) if step.strip()] or [text]
        marked = "".join(step + self.mark for step in steps)
        rendered = self._render(extend(prompt, marked))
        special = isinstance(prompt, str)
        inputs = self._tokenizer([rendered], return_tensors="pt", add_special_tokens=special).to(
            self.device
        )
        inputs.pop("token_type_ids", None)
        (mark,) = self._one_token(self.mark, "mark")
        places = (inputs["input_ids"][0] == mark).nonzero()[-len(steps) :, 0]
        if len(places) != len(steps):
            raise ValueError(
                f"{self.model}: {len(steps)} steps, and the mark {self.mark!r} stands"
                f" {len(places)} times in the rendered text; choose this model's own mark"
            )
        with self._torch.no_grad():
            output = self._model(**inputs)
        logits = (output.logits if hasattr(output, "logits") else output[0])[0].float()[places]
        if self.good is not None and self.bad is not None:
            good, bad = (self._one_token(t, "good and bad")[0] for t in (self.good, self.bad))
            logits = logits[:, [bad, good]]
        if logits.shape[1] != 2:
            raise ValueError(
                f"{self.model} has {logits.shape[1]} outputs at a step; expected two (wrong,"
                " right), or `good` and `bad` for a causal model"
            )
        return [float(p) for p in logits.softmax(-1)[:, 1]]

    def _one_token(self, text: str, name: str) -> list[int]:
        ids = list(self._tokenizer.encode(text, add_special_tokens=False))
        if len(ids) != 1:
            raise ValueError(f"{name}: {text!r} is {len(ids)} tokens of {self.model}, not one")
        return ids

    def _render(self, prompt: Asked) -> str:
        return (
            prompt
            if isinstance(prompt, str)
            else self._tokenizer.apply_chat_template(list(prompt), tokenize=False)
        )


def _dtype_name(version: str) -> str:
    """What transformers calls the type of weights: renamed in 4.56."""
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    return "torch_dtype" if numbers < [4, 56] else "dtype"


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
