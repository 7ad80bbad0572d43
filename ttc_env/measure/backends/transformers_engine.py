"""Plain `transformers`: slow, simple, for small models and as a second opinion on vLLM's samples.

The only file that generates with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ttc_env.measure.backends.base import (
    MissingExtra,
    OneByOne,
    Prompt,
    Sample,
    Sampling,
    check_seeds,
    prompt_ids,
    weights_hash,
)


class TransformersBackend(OneByOne):
    """A causal language model run by `model.generate`, one prompt (n samples) at a time.

    Args:
        model: a model folder or a hub name.
        revision: branch, tag or commit of a hub model.
        device: "cpu", "cuda", ...; a GPU if there is one, by default.
        chat_template_kwargs: what the chat template takes besides messages.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtra(
                "transformers (with torch)", "by the transformers backend"
            ) from error
        super().__init__()
        self._torch = torch
        self.model, self.revision = model, revision
        self._template = dict(chat_template_kwargs or {})
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model, revision=revision)
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(model, revision=revision)
        self._model: Any = network.to(self.device).eval()

    def describe(self) -> dict[str, Any]:
        import transformers

        torch = self._torch
        return {
            "backend": "transformers",
            "model": self.model,
            "revision": self.revision,
            "weights": weights_hash(Path(self.model)),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
            "hardware": (
                f"CPU, {torch.get_num_threads()} threads"
                if self.device == "cpu"
                else torch.cuda.get_device_name()
            ),
            "settings": {"chat_template_kwargs": self._template} if self._template else {},
        }

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        check_seeds(prompts, seeds, sampling.n)
        return [
            self._one(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def _one(self, prompt: Prompt, sampling: Sampling, seed: int) -> list[Sample]:
        torch = self._torch
        ids = prompt_ids(self._tokenizer, prompt, self._template)
        chosen: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            chosen = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p or None,
            }
        if sampling.presence_penalty or sampling.frequency_penalty:
            raise ValueError(
                "transformers has no presence_penalty and no frequency_penalty; use"
                " repetition_penalty, or another backend"
            )
        if sampling.repetition_penalty != 1.0:
            chosen["repetition_penalty"] = sampling.repetition_penalty
        if sampling.stop:
            chosen["stopping_criteria"] = [self._stop_at(sampling.stop, len(ids))]
        tokens = torch.tensor([ids], device=self.device)
        devices = [tokens.device] if self.device != "cpu" else []
        # the caller's generator stays as it was
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed % (1 << 63))
            output = self._model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                num_return_sequences=sampling.n,
                max_new_tokens=sampling.max_tokens,
                pad_token_id=self._end_ids()[0],
                output_logits=True,
                return_dict_in_generate=True,
                **chosen,
            )
        drawn = output.sequences[:, len(ids) :]
        logprobs = (
            torch.stack(output.logits, dim=1)
            .float()
            .log_softmax(-1)
            .gather(-1, drawn[..., None])[..., 0]
        )
        return [
            self._sample(row.tolist(), values.tolist(), sampling)
            for row, values in zip(drawn, logprobs, strict=True)
        ]

    def _stop_at(self, strings: Sequence[str], prompt_length: int) -> Any:
        """A stopping rule for each row; the library's own fails on tokenizers without a common
        prefix.
        """
        decode, torch = self._tokenizer.batch_decode, self._torch

        def stop(tokens: Any, scores: Any, **_: Any) -> Any:
            texts = decode(tokens[:, prompt_length:], skip_special_tokens=True)
            return torch.tensor(
                [any(s in text for s in strings) for text in texts], device=tokens.device
            )

        return stop

    def _end_ids(self) -> list[int]:
        end = self._model.generation_config.eos_token_id
        if end is None:
            end = self._tokenizer.eos_token_id
        if end is None:
            raise ValueError(
                f"{self.model} names no end-of-sequence token; set eos_token_id in its"
                " generation_config.json"
            )
        return list(end) if isinstance(end, (list, tuple)) else [end]

    def _sample(self, ids: list[int], logprobs: list[float], sampling: Sampling) -> Sample:
        """Cut a padded row where its own sample ended: at the end token, or at the token that
        completed a stop string.
        """
        ends = self._end_ids()
        length = next((j + 1 for j, token in enumerate(ids) if token in ends), len(ids))
        finished = length < len(ids) or (ids and ids[-1] in ends)
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        hits = [text.find(s) for s in sampling.stop if s in text]
        if hits:
            text, finished = text[: min(hits)], True
            # Rows of a batch that stopped early are padded with the end token, which does not
            # belong to the sample.
            while length > 1 and any(
                s in self._tokenizer.decode(ids[: length - 1], skip_special_tokens=True)
                for s in sampling.stop
            ):
                length -= 1
        finish: Literal["stop", "length"] = "stop" if finished else "length"
        return Sample(text, length, sum(logprobs[:length]), finish, tuple(ids[:length]))

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def close(self) -> None:
        self._model = None
