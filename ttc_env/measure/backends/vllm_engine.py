"""vLLM in this process: the fast way, on a GPU, or on a CPU build for tests. The only file that
imports vllm.

One call draws n samples of each prompt; the prompt is computed once and shared between them (prefix
caching). Relies on the part of the API that is the same in vLLM 0.20 to 0.33.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_env.measure.backends.base import (
    MissingExtra,
    Prompt,
    Sample,
    Sampling,
    check_seeds,
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
        self._arguments = arguments | (engine or {})
        self._llm: Any = vllm.LLM(model=model, **self._arguments)
        self._sampling_params = vllm.SamplingParams

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

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        check_seeds(prompts, seeds, sampling.n)
        parameters = [
            self._sampling_params(
                n=sampling.n,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                **sampling.further(),
                max_tokens=sampling.max_tokens,
                stop=list(sampling.stop) or None,
                seed=seed if sampling.temperature > 0 else None,
                logprobs=0,  # without it cumulative_logprob is None
            )
            for seed in seeds
        ]
        inputs = [{"prompt_token_ids": self._token_ids(prompt)} for prompt in prompts]
        outputs = self._llm.generate(inputs, parameters, use_tqdm=False)
        return [[_sample(completion) for completion in output.outputs] for output in outputs]

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
    return Sample(
        completion.text,
        len(completion.token_ids),
        float(completion.cumulative_logprob),
        "length" if cut_off else "stop",
        tuple(completion.token_ids),
    )
