"""Engines that draw samples, behind one small protocol (`base.Backend`).

Each engine's library is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from ttc_env.measure.backends.base import Backend

BACKENDS = ("vllm", "openai", "transformers", "fake")


def _backend_class(name: str) -> type[Any]:
    if name == "vllm":
        from ttc_env.measure.backends.vllm_engine import VllmBackend

        return VllmBackend
    if name == "openai":
        from ttc_env.measure.backends.openai_server import OpenAIServer

        return OpenAIServer
    if name == "transformers":
        from ttc_env.measure.backends.transformers_engine import TransformersBackend

        return TransformersBackend
    if name == "fake":
        from ttc_env.measure.backends.fake import FakeBackend

        return FakeBackend
    raise ValueError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError unless the backend `name` has all of these options; loads no model."""
    known = {*signature(_backend_class(name)).parameters, "data_parallel"} - {"model"}
    for option in options:
        if option not in known:
            raise ValueError(
                f"the backend {name} has no option {option!r}; choose among"
                f" {', '.join(sorted(known))}"
            )


def make_backend(name: str, model: str, **options: Any) -> Backend:
    """The backend called `name` for `model` (a folder, a hub name, or the name a server knows).

    The option `data_parallel` runs that many copies, each in its own process on its own GPUs
    (`replicas.Replicas`).

    Raises:
        ValueError: an unknown name.
        MissingExtra: the engine's library is not installed.
    """
    copies = options.pop("data_parallel", 1)
    if copies > 1:
        from ttc_env.measure.backends.replicas import Replicas

        return Replicas(
            name, model, options, copies=copies, gpus_each=options.get("tensor_parallel", 1)
        )
    backend: Backend = _backend_class(name)(model, **options)
    return backend
