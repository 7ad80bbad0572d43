"""vLLM in this process: the fast way, on a GPU, or on a CPU build for tests. The only file that
imports vllm.

One request draws n samples of a prompt; the prompt is computed once and shared between them (prefix
caching). Requests are added while others run, so the engine is full until the last question. Relies
on the part of the API that is the same in vLLM 0.20 to 0.33.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_env.measure.backends.base import (
    MissingExtra,
    Prompt,
    Request,
    Sample,
    Sampling,
    ThoughtMarks,
    gather,
    prompt_ids,
    weights_hash,
)


def _prepare_cpu() -> None:
    """Settings that a CPU build needs and that are read when vllm is imported; the caller's own
    values win.
    """
    # one process: a tiny model is up in seconds, not a minute
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def has_budgets(vllm: Any) -> bool:
    """Whether this vLLM closes thoughts itself (`thinking_token_budget`)."""
    fields = getattr(vllm.SamplingParams, "__struct_fields__", ())
    try:
        importlib.import_module("vllm.config.reasoning")
    except ImportError:
        return False
    return "thinking_token_budget" in fields


class VllmBackend:
    """An engine for one model. GPU options pass through to `vllm.LLM`.

    Args:
        model: a model folder or a hub name.
        revision: branch, tag or commit of a hub model.
        dtype: "auto", "bfloat16", "float32", ...; on a CPU "auto" means float32.
        tensor_parallel: GPUs that the model is split over (for several copies see
            `replicas.Replicas`).
        max_model_len: longest prompt and answer together, tokens; the model's own limit by default.
        chat_template_kwargs: what the chat template takes besides messages, such as
            {"enable_thinking": false}.
        thought: what opens and what closes a thought ("<think>", "</think>"), for this engine's own
            thinking budget; where it has none, `thought_marks` stays None.
        engine: any further arguments of `vllm.LLM`; they win over the defaults chosen here.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        tensor_parallel: int = 1,
        max_model_len: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        thought: Sequence[str] | None = None,
        engine: dict[str, Any] | None = None,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("torch", "by the vllm backend") from error
        self.on_cpu = not torch.cuda.is_available()
        if self.on_cpu:
            _prepare_cpu()
        try:
            import vllm
        except ImportError as error:
            raise MissingExtra(
                "vllm",
                "by the vllm backend (or use --backend openai with a running server, or --backend"
                " transformers)",
            ) from error
        self.model, self.revision = model, revision
        self._template = dict(chat_template_kwargs or {})
        arguments: dict[str, Any] = {
            "dtype": dtype,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": True,
            # every request carries its own seed; this one only keeps vLLM from drawing one
            "seed": 0,
            "disable_log_stats": True,
        }
        if revision is not None:
            arguments["revision"] = revision
        if max_model_len is not None:
            arguments["max_model_len"] = max_model_len
        if self.on_cpu:
            # Seeds of single requests crash with chunked prefill on a CPU; the CPU kernels want
            # blocks of 32.
            arguments |= {"enforce_eager": True, "enable_chunked_prefill": False, "block_size": 32}
            if dtype == "auto":
                arguments["dtype"] = "float32"
        budgets = has_budgets(vllm)
        if thought is not None and budgets:
            start, end = thought
            arguments["reasoning_config"] = {"reasoning_start_str": start, "reasoning_end_str": end}
        self._arguments = arguments | (engine or {})
        self._llm: Any = vllm.LLM(model=model, **self._arguments)
        self._sampling_params = vllm.SamplingParams
        self._final_only = vllm.sampling_params.RequestOutputKind.FINAL_ONLY
        self._requests = itertools.count()
        self._tickets = itertools.count()
        # engine's id of a prompt -> its ticket and place; ticket -> samples of its prompts
        self._places: dict[str, tuple[int, int]] = {}
        self._drawn: dict[int, list[list[Sample] | None]] = {}
        self.thought_marks: ThoughtMarks | None = None
        if thought is not None and budgets:
            ids = self._encode(thought[1])
            if len(ids) == 1:
                self.thought_marks = ThoughtMarks(thought[0], thought[1], ids[0])

    def describe(self) -> dict[str, Any]:
        import torch
        import vllm

        hardware = (
            f"CPU, {torch.get_num_threads()} threads"
            if self.on_cpu
            else ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        )
        return {
            "backend": "vllm",
            "model": self.model,
            "revision": self.revision,
            "weights": weights_hash(Path(self.model)),
            "dtype": str(self._arguments["dtype"]),
            "versions": {"vllm": vllm.__version__, "torch": torch.__version__},
            "hardware": hardware,
            "settings": {"chat_template_kwargs": self._template} if self._template else {},
        }

    def lanes(self, n: int) -> int:
        """Twice what the engine works on at once: something is always waiting."""
        seats = self._llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        return int(-(-2 * seats // n))

    def submit(self, request: Request) -> int:
        ticket = next(self._tickets)
        self._drawn[ticket] = [None] * len(request.prompts)
        for place, (prompt, seed) in enumerate(zip(request.prompts, request.seeds, strict=True)):
            ids = self._token_ids(prompt)
            parameters = self._parameters(request.sampling, seed, ids)
            label = f"ttc-{next(self._requests)}"
            self._places[label] = (ticket, place)
            self._llm.llm_engine.add_request(label, {"prompt_token_ids": ids}, parameters)
        return ticket

    def advance(self) -> list[tuple[int, list[list[Sample]]]]:
        ended: list[tuple[int, list[list[Sample]]]] = []
        if not self._places:
            return ended
        for output in self._llm.llm_engine.step():
            if not output.finished or output.request_id not in self._places:
                continue
            ticket, place = self._places.pop(output.request_id)
            rows = self._drawn[ticket]
            completions = sorted(output.outputs, key=lambda completion: completion.index)
            rows[place] = [_sample(completion) for completion in completions]
            if all(row is not None for row in rows):
                ended.append((ticket, [row for row in self._drawn.pop(ticket) if row is not None]))
        return ended

    def abandon(self) -> None:
        if self._places:
            self._llm.llm_engine.abort_request(list(self._places))
        self._places.clear()
        self._drawn.clear()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        return gather(self, prompts, sampling, seeds)

    def _parameters(self, sampling: Sampling, seed: int, ids: Sequence[int]) -> Any:
        more: dict[str, Any] = {}
        if sampling.thinking_budget is not None:
            more["thinking_token_budget"] = sampling.thinking_budget + self._opened(ids)
        return self._sampling_params(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            **sampling.further(),
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop) or None,
            seed=seed if sampling.temperature > 0 else None,
            logprobs=0,  # without it cumulative_logprob is None
            output_kind=self._final_only,
            **more,
        )

    def _opened(self, ids: Sequence[int]) -> int:
        """Tokens of a prompt after what opens the thought (a line break): the engine counts them as
        thought.
        """
        if self.thought_marks is None:
            raise ValueError("this engine was started without the option `thought`")
        start = self._encode(self.thought_marks.start)
        for at in range(len(ids) - len(start), -1, -1):
            if list(ids[at : at + len(start)]) == start:
                return len(ids) - at - len(start)
        raise RuntimeError(
            f"the prompt does not open a thought with {self.thought_marks.start!r}; set"
            " thought_start, or engine_budgets = false"
        )

    def _encode(self, text: str) -> list[int]:
        return list(self._llm.get_tokenizer().encode(text, add_special_tokens=False))

    def _token_ids(self, prompt: Prompt) -> list[int]:
        return prompt_ids(self._llm.get_tokenizer(), prompt, self._template)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._llm.get_tokenizer().decode(list(token_ids), skip_special_tokens=True))

    def close(self) -> None:
        import gc

        self._llm = None
        gc.collect()


def _sample(completion: Any) -> Sample:
    if completion.cumulative_logprob is None:
        raise RuntimeError(
            "vLLM returned no log-probability although logprobs=0 was asked for; this vLLM version"
            " is not supported"
        )
    cut_off = completion.finish_reason == "length"
    ids = tuple(completion.token_ids)
    return Sample(
        completion.text,
        len(ids),
        float(completion.cumulative_logprob),
        "length" if cut_off else "stop",
        ids,
        tuple(step[i].logprob for i, step in zip(ids, completion.logprobs, strict=True)),
    )
