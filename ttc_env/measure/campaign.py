"""A campaign: which models are measured on which tasks by which dials, in one place.

Written by hand as a TOML file (`ttc-env measure campaign.toml`; `campaigns/paper.toml` beside this
file is an example with every entry explained), or made from the options of the command. Everything
is checked before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ttc_env.settings as settings
from ttc_env.measure.backends import BACKENDS, check_options
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.dials import Closing, CoupledBudgets, Dial, Parallel, ThinkingBudget
from ttc_env.measure.estimate import CurveOptions, RewardOptions
from ttc_env.measure.names import file_name
from ttc_env.measure.tasks import Task, load_task

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
MORE_SAMPLING = ("max_tokens", "thought_start", "engine_budgets")  # that a provider may change


@dataclass(frozen=True)
class TaskSpec:
    """A task of a campaign."""

    task: str  # as `load_task` takes it
    limit: int | None = None
    data: Path | None = None
    seed: int | None = None  # the campaign's own by default
    options: Mapping[str, Any] = field(default_factory=dict)
    alpha: float | None = None  # USD value of a right answer: the market is solved if it is known

    def load(self, seed: int) -> Task:
        chosen = seed if self.seed is None else self.seed
        return load_task(
            self.task, limit=self.limit, seed=chosen, data=self.data, options=self.options
        )


@dataclass(frozen=True)
class DialSpec:
    """How samples are drawn, and what is estimated from them."""

    samples: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None  # the task's own by default
    budgets: Sequence[int] | None = None  # thinking budgets: the dial `reasoning`
    coupled: bool = False  # all budgets from one thought
    thought_start: str = ""
    engine_budgets: bool = True  # vLLM's own thinking budget where it can do what is asked
    methods: Sequence[str] = ("majority", "best_of_n")
    levels: Sequence[int] | None = None
    score: str = "logprob"

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        self._sampling(self.max_tokens or 1, ())  # checks the rest
        if self.budgets is not None and (
            not self.budgets or min(self.budgets) < 0 or len(set(self.budgets)) < len(self.budgets)
        ):
            raise ValueError(f"budgets are {list(self.budgets)}; give different ones, 0 or more")
        if self.coupled and self.budgets is None:
            raise ValueError("coupled budgets need budgets")
        highest = 0 if self.budgets is not None else max(self.levels or (0,))
        if highest > self.samples:
            raise ValueError(f"levels go up to {highest}, but samples is {self.samples}")

    def _sampling(self, max_tokens: int, stop: tuple[str, ...]) -> Sampling:
        chosen = {name: getattr(self, name) for name in SAMPLING}
        return Sampling(n=self.samples, max_tokens=max_tokens, stop=stop, **chosen)

    def dials(self, task: Task) -> dict[str, Dial]:
        """Trace label -> dial.

        Raises:
            ValueError: budgets, and the task does not say how a thought is closed.
        """
        sampling = self._sampling(self.max_tokens or task.max_tokens, task.stop)
        warmth = f"t{self.temperature:g}"
        if self.budgets is None:
            return {f"n{self.samples}-{warmth}": Parallel(sampling)}
        close = task.thinking
        if not close:
            raise ValueError(
                f"task {task.name} does not say how a thought is closed; add `thinking` to its"
                " options: {end = ..., prefix = ..., answer_tokens = ...}"
            )
        closing = Closing(
            close["end"], close["answer_tokens"], close["prefix"], task.stop, self.thought_start
        )
        budgets = tuple(sorted(self.budgets))
        if self.coupled:
            return {
                f"budgets{budgets[0]}to{budgets[-1]}-{warmth}": CoupledBudgets(
                    sampling, budgets, closing
                )
            }
        return {
            f"budget{budget}-{warmth}": ThinkingBudget(
                sampling,
                budget,
                closing.end,
                closing.answer_tokens,
                closing.answer_prefix,
                closing.answer_stop,
                closing.start,
                self.engine_budgets,
            )
            for budget in budgets
        }

    def curve_options(self, reward: RewardOptions | None, resamples: int) -> CurveOptions:
        return CurveOptions(self.methods, self.levels, self.score, reward, None, resamples)


@dataclass(frozen=True)
class ProviderSpec:
    """A model that is measured, and what it is sold for."""

    model: str  # folder, hub name, or the name that a server knows
    backend: str = "vllm"
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    price: float | None = None  # USD per 1M tokens
    margin: float | None = None  # mu; the campaign's, or the loader's default
    system: str | None = None  # in place of the task's own system prompt; "" for none
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dials: Sequence[str] | None = None  # names of dials; all by default
    tasks: Sequence[str] | None = None  # names of tasks; all by default
    sampling: Mapping[str, Any] = field(
        default_factory=dict
    )  # changes to its dials: temperature, ...

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(
                f"backend {self.backend!r} is unknown; choose one of {', '.join(BACKENDS)}"
            )
        check_options(self.backend, self.options())
        for name, low in (("price", 0.0), ("margin", -1.0)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > low):
                raise ValueError(f"{name} is {value}; it must be a number above {low:g}")

    def options(self) -> dict[str, Any]:
        """What `make_backend` gets."""
        options = dict(self.backend_options)
        if self.revision and self.backend != "fake":
            options["revision"] = self.revision
        if self.chat_template_kwargs:
            options["chat_template_kwargs"] = dict(self.chat_template_kwargs)
        return options

    def asks(self, task: Task) -> Task:
        """The task as this model is asked."""
        if self.system is None:
            return task
        questions = []
        for question in task.questions:
            if isinstance(question.prompt, str):
                raise ValueError(
                    f"task {task.name} completes plain text, which has no system prompt"
                )
            rest = tuple(m for m in question.prompt if m["role"] != "system")
            system = ({"role": "system", "content": self.system},) if self.system else ()
            questions.append(dataclasses.replace(question, prompt=(*system, *rest)))
        return dataclasses.replace(task, questions=tuple(questions))


@dataclass(frozen=True)
class Job:
    """One trace: a provider, a task, a dial."""

    provider: str
    task: str  # its name in the campaign
    dial: str  # its name in the campaign
    label: str  # its name in the trace's file name
    how: Dial
    asked: Task

    @property
    def file(self) -> str:
        return f"{file_name(self.provider)}--{file_name(self.asked.name)}--{self.label}.jsonl"

    @property
    def most_tokens(self) -> int:
        """Upper bound on the generated tokens."""
        return self.how.most_tokens * len(self.asked.questions)


@dataclass(frozen=True)
class Campaign:
    """Everything that one run of `ttc-env measure` does."""

    out: Path
    providers: Mapping[str, ProviderSpec]
    tasks: Mapping[str, TaskSpec]
    dials: Mapping[str, DialSpec]
    reward_model: RewardOptions | None = None
    betas: Sequence[float] = ()  # the measured markets are solved at these; 1/USD
    seed: int = 0
    batch: int | None = None  # questions under way at once, at most; by default the engine's choice
    margin: float | None = None
    resamples: int = 2000
    check_workers: int = 2
    check_timeout: float = 10.0
    tokens_per_second: float = 1000.0  # assumed before anything is measured
    usd_per_hour: float | None = None  # of the machine, for the estimate of the cost

    @property
    def remote_code(self) -> list[str]:
        """The tables that ask to run code which a model's repository brings."""
        options = {
            f"[providers.{name}]": provider.backend_options
            for name, provider in self.providers.items()
        }
        if self.reward_model is not None:
            options["[reward_model]"] = self.reward_model.options
        return [table for table, given in options.items() if _asks_for_code(given)]

    def __post_init__(self) -> None:
        for name in ("providers", "tasks", "dials"):
            if not getattr(self, name):
                raise ValueError(f"a campaign needs at least one entry in [{name}]")
        for name in ("batch", "check_workers", "resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("check_timeout", "tokens_per_second"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if any(not (math.isfinite(beta) and beta > 0) for beta in self.betas):
            raise ValueError(f"betas are {list(self.betas)}; each must be a positive number")
        for name, dial in self.dials.items():
            try:
                dial.curve_options(self.reward_model, self.resamples)
            except ValueError as error:
                raise ValueError(f"dial {name!r}: {error}") from None
        for name, provider in self.providers.items():
            file_name(name)
            for kind, known in (("dials", self.dials), ("tasks", self.tasks)):
                for chosen in getattr(provider, kind) or ():
                    if chosen not in known:
                        raise ValueError(
                            f"provider {name!r} names {chosen!r} among its {kind}; there are"
                            f" {', '.join(known)}"
                        )
            if provider.sampling:
                for dial_name in provider.dials or self.dials:
                    self.dial(provider, dial_name)

    def dial(self, provider: ProviderSpec, name: str) -> DialSpec:
        """A dial with the provider's changes."""
        unknown = sorted(set(provider.sampling) - {*SAMPLING, *MORE_SAMPLING})
        if unknown:
            raise ValueError(
                f"sampling option {unknown[0]!r} is unknown; choose among"
                f" {', '.join((*SAMPLING, *MORE_SAMPLING))}"
            )
        return dataclasses.replace(self.dials[name], **provider.sampling)

    def load_tasks(self) -> dict[str, Task]:
        """Name in the campaign -> task, its questions read."""
        loaded = {}
        for name, spec in self.tasks.items():
            try:
                loaded[name] = spec.load(self.seed)
            except ValueError as error:
                raise ValueError(f"task {name!r}: {error}") from None
        names = [task.name for task in loaded.values()]
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks would write the same files: {', '.join(names)}")
        return loaded

    def jobs(self, tasks: Mapping[str, Task]) -> list[Job]:
        """All traces, model after model."""
        jobs = []
        for name, provider in self.providers.items():
            for task_name in provider.tasks or self.tasks:
                asked = provider.asks(tasks[task_name])
                for dial_name in provider.dials or self.dials:
                    dials = self.dial(provider, dial_name).dials(asked)
                    jobs += [
                        Job(name, task_name, dial_name, label, how, asked)
                        for label, how in dials.items()
                    ]
        files = [job.file for job in jobs]
        twice = [file for file in files if files.count(file) > 1]
        if twice:
            raise ValueError(
                f"two dials would write the trace {twice[0]}; give them other samples or"
                " temperatures, or separate campaigns"
            )
        return jobs

    def prices(self) -> dict[str, float]:
        """Provider -> USD/token, where known."""
        return {
            name: provider.price * 1e-6
            for name, provider in self.providers.items()
            if provider.price is not None
        }


def shard_places(jobs: Sequence[Job], shard: int, of: int) -> list[list[int]]:
    """The places of the questions of each job that shard number `shard` (from 1) of `of` draws.

    All questions stand in one row, model after model, and are cut into stretches of equal weight
    (by
    their largest number of tokens), so that a shard loads few models and all end about together.

    Raises:
        ValueError: a number out of range.
    """
    if not 1 <= shard <= of:
        raise ValueError(f"shard {shard} of {of}; give I/N with I from 1 to N")
    total = sum(job.most_tokens for job in jobs)
    low, high = total * (shard - 1), total * shard  # in units of 1/of tokens
    places, before = [], 0
    for job in jobs:
        each = job.how.most_tokens
        chosen = [
            i for i in range(len(job.asked.questions)) if low <= (before + i * each) * of < high
        ]
        places.append(chosen)
        before += job.most_tokens
    return places


def _asks_for_code(options: Any) -> bool:
    """Whether `trust_remote_code` stands anywhere in these options, and is not off."""
    if not isinstance(options, Mapping):
        return False
    return bool(options.get("trust_remote_code")) or any(map(_asks_for_code, options.values()))


def read_campaign(path: str | Path) -> Campaign:
    """A campaign from its TOML file. Relative paths of data files are relative to it.

    Raises:
        ValueError: not TOML, an entry that does not exist, or one of the wrong kind; the message
            names it.
    """
    path = Path(path)
    content = settings.read_toml(path)
    top = dict(content.pop("campaign", {}))
    parts: dict[str, Any] = {}
    for section, kind in (("providers", ProviderSpec), ("tasks", TaskSpec), ("dials", DialSpec)):
        parts[section] = {
            name: settings.of(kind, values, f"{path}: [{section}.{name}]")
            for name, values in _tables(content.pop(section, {}), f"{path}: [{section}]")
        }
    for name, task in parts["tasks"].items():
        if task.data is not None:
            parts["tasks"][name] = dataclasses.replace(task, data=path.parent / task.data)
    reward = content.pop("reward_model", None)
    if content:
        raise ValueError(
            f"{path}: [{next(iter(content))}] is unknown; there are campaign, providers, tasks,"
            " dials, reward_model"
        )
    if reward is not None:
        if "model" not in reward:
            raise ValueError(f"{path}: [reward_model] needs a model")
        options = {key: value for key, value in reward.items() if key != "model"}
        parts["reward_model"] = RewardOptions(reward["model"], options)
    top.setdefault("out", f"runs/{path.stem}")
    return settings.of(Campaign, {**top, **parts}, f"{path}: [campaign]")


def campaign_toml(campaign: Campaign) -> str:
    """A campaign as the text of a file that `read_campaign` reads."""
    content = settings.content(campaign)
    sections = ("providers", "tasks", "dials")
    top = {name: value for name, value in content.items() if name not in sections}
    reward = top.pop("reward_model", None)
    for task in content["tasks"].values():
        if "data" in task:  # a file's own paths are relative to it
            task["data"] = str(Path(task["data"]).absolute())
    tables = {"campaign": top, **{name: content[name] for name in sections}}
    if reward is not None:
        tables["reward_model"] = {"model": reward["model"], **reward["options"]}
    return settings.to_toml(tables)


def _tables(section: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(section, dict):
        raise ValueError(f"{where} must hold tables")
    for name, values in section.items():
        if not isinstance(values, dict):
            raise ValueError(f"{where}: {name} must be a table")
        yield name, values
