"""Pages of the documentation that are written from the code: one for each environment id, and the
API reference.

Docstrings are Markdown, and so are the pages (`scripts/build_docs.py` hands them to Sphinx).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

import ttc_env
from ttc_env.game.mechanisms import mechanism_description
from ttc_env.registration import GYMNASIUM_IDS, PETTINGZOO_IDS

ROUNDS = 8
"""Rounds played before an environment's picture is taken."""

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "environments": (
        "API: environments",
        ("parallel_env", "env", "vector_env", "MarketEnv", "MarketAEC", "VectorMarketEnv",
         "ProviderEnv", "testing.check_env"),
    ),
    "markets": (
        "API: markets",
        ("load_market", "Market", "Provider", "QualityFunction", "random_markets", "MarketBatch",
         "resample", "prices_from"),
    ),
    "solving": (
        "API: solving",
        ("solve", "Solution", "AuctionSolution", "sweep", "Sweep", "auction_gain", "regret",
         "relative_regret", "nash_conv", "compare", "Comparison", "first_best", "fit_beta",
         "audit", "Audit", "deterrence", "Deterrence", "who_pays"),
    ),
    "exchange": (
        "API: other libraries",
        ("export.payoffs", "export.Payoffs"),
    ),
    "mechanisms": (
        "API: mechanisms",
        ("mechanisms", "make_mechanism", "register_mechanism", "Mechanism", "Rule", "UserType"),
    ),
}  # fmt: skip
"""Pages of the reference. A public name that stands in none of them is on the page `more`."""


# --- environments ---------------------------------------------------------------------------------


def environment_ids() -> list[str]:
    """All ids, multi-agent first."""
    return [*PETTINGZOO_IDS, *GYMNASIUM_IDS]


def page_of(name: str) -> str:
    """The page of an id on the site."""
    return f"environments/{name.split('/')[1].lower()}.md"


def example(name: str) -> str:
    """An episode of random play, as the id's page shows it."""
    if name in GYMNASIUM_IDS:
        return f"""\
import gymnasium
import ttc_env

env = gymnasium.make("{name}", opponent="equilibrium")
observation, info = env.reset(seed=0)
over = False
while not over:
    action = env.action_space.sample()
    observation, reward, terminated, over, info = env.step(action)
"""
    return f"""\
import pettingzoo
import ttc_env

env = pettingzoo.make("parallel", "{name}")
observations, infos = env.reset(seed=0)
while env.agents:
    actions = {{agent: env.action_space(agent).sample() for agent in env.agents}}
    observations, rewards, terminations, truncations, infos = env.step(actions)
solution = env.unwrapped.solve()  # the exact solution of this very game
"""


def _played(name: str) -> Any:
    """The environment of a multi-agent id after some rounds of seeded random play."""
    options = {"benchmark": "gsm8k", "method": "majority", "beta": 200.0, **PETTINGZOO_IDS[name]}
    env = ttc_env.parallel_env(render_mode="rgb_array", max_cycles=ROUNDS, **options)
    env.reset(seed=0)
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(k)
    for _ in range(ROUNDS):
        chosen = {agent: env.action_space(agent).sample() for agent in env.possible_agents}
        _, _, _, _, infos = env.step(chosen)
    return env, infos


def picture(env: Any) -> bytes:
    """The last frame as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(env.render()).quantize(64).save(file, format="PNG", optimize=True)
    return file.getvalue()


def environment_page(name: str) -> Iterator[tuple[str, str | bytes]]:
    """An id's page in Gymnasium's form, and its picture: (file, content) twice.

    Everything that stands in tables is read off the environment.
    """
    env, infos = _played(name)
    config, title = env.config, name.split("/")[1]
    mechanism = config.mechanism
    sets = ", ".join(f"`{key}={value!r}`" for key, value in PETTINGZOO_IDS[name].items())
    yield f"environments/{title.lower()}.png", picture(env)
    levels = ", ".join(f"{level:g}" for level in config.market.providers[0].levels)
    choices = ", ".join(f"{choice:g}" for choice in mechanism.tariff.choices)
    parts = [f"- **level**: {levels} (samples, of which the majority's answer is delivered)"]
    if len(mechanism.tariff.choices) > 1:
        parts.append(f"- **price choice**: {choices}")
    reports = mechanism.reports(config.market)
    if len(reports) > 1:
        parts.append(f"- **report**: {len(reports)} choices, the first of which is the truth")
    agent = env.possible_agents[0]
    shown = {key: value for key, value in dict(infos[agent]).items() if key != "action_mask"}
    info_rows = "\n".join(f"| `{key}` | {_short(value)} |" for key, value in shown.items())
    layout = "\n".join(
        f"| {_entries(at)} | `{block.name}` | {block.text} |"
        for block, at in zip(env.layout.blocks, env.layout.slices.values(), strict=True)
    )
    solved = _solution(env)
    yield (
        page_of(name),
        f"""# {title}

```{{image}} {title.lower()}.png
:alt: {title} after {ROUNDS} rounds of random play
```

| | |
| --- | --- |
| Import | `pettingzoo.make("parallel", "{name}")`, or `"aec"`, after `import ttc_env` |
| Sets | {sets} |
| Agents | {len(env.possible_agents)}: `provider_0` to `provider_{len(env.possible_agents) - 1}` |
| Action space | `{env.action_space(agent)}` |
| Observation space | `{env.observation_space(agent)}` |
| State space | `{env.state_space.shape}`, float32 |
| Rewards | {"expected" if config.demand == "expected" else "realised"} profit, USD a round |

The numbers on this page are those of the default market, GSM8K with majority voting; the picture
shows {ROUNDS} rounds of random play at beta = 200. Every id takes every
[option](../options.md).

## Description

{mechanism_text(mechanism)}

## Actions

{chr(10).join(parts)}

{{py:obj}}`ttc_env.MarketEnv` says what the numbers mean, and what a level
beyond a provider's own grid does.

## Observations

| entries | block | holds |
| --- | --- | --- |
{layout}

## Rewards

{
            "Expected profit of serving `users` arrivals (1000), in USD."
            if config.demand == "expected"
            else "Profit, in USD, from the users who were drawn; its mean is the expected profit."
        }

## Infos

Of `provider_0` in the round of the picture:

| key | value |
| --- | --- |
{info_rows}

## Episode end

All agents are truncated together after `max_cycles` (100) rounds; nobody terminates.

## The exact solution

`env.unwrapped.solve()` at beta = 200: {solved}

## Example

```python
{example(name)}```

## Version history

- v0: first version ({ttc_env.__version__}).
""",
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _entries(at: slice) -> str:
    return f"{at.start}" if at.stop == at.start + 1 else f"{at.start} to {at.stop - 1}"


def _solution(env: Any) -> str:
    try:
        return f"`{env.solve()!r}`."
    except ValueError as error:
        return f"none; {error}."


def mechanism_text(mechanism: Any) -> str:
    """What a mechanism's rule, and its factory, say of themselves."""
    rule = (inspect.getdoc(type(mechanism.rule)) or "").split("\n\n")[0]
    return f"{rule}\n\n{as_markdown(mechanism_description(mechanism.name)).rstrip()}"


# --- the API --------------------------------------------------------------------------------------


@functools.cache
def public_names() -> frozenset[str]:
    """What the reference documents, without the package's name."""
    grouped = [name for _, names in GROUPS.values() for name in names]
    return frozenset([*grouped, *ttc_env.__all__])


def reference_pages() -> Iterator[tuple[str, str]]:
    """The pages of the API reference: (file, content)."""
    grouped = {name for _, names in GROUPS.values() for name in names}
    groups = dict(GROUPS)
    if rest := tuple(sorted(public_names() - grouped)):
        groups["more"] = ("API: more", rest)
    for page, (title, names) in groups.items():
        entries = "\n\n".join(_entry(name) for name in names)
        yield f"api/{page}.md", f"# {title}\n\n{entries}\n"


def _entry(name: str) -> str:
    module, _, short = name.rpartition(".")
    owner = importlib.import_module(f"ttc_env.{module}") if module else ttc_env
    value = getattr(owner, short)
    if inspect.isclass(value):
        return _class(f"ttc_env.{name}", value)
    return _directive(
        "function", f"ttc_env.{name}{_signature(value)}", as_markdown(inspect.getdoc(value))
    )


def _class(name: str, value: type) -> str:
    text = [as_markdown(inspect.getdoc(value))]
    comments = _field_comments(value)
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    for field in fields:
        if not field.name.startswith("_"):
            text.append(
                _directive(
                    "attribute",
                    field.name,
                    comments.get(field.name, ""),
                    depth=3,
                    options={"type": str(field.type)},
                )
            )
    for key, member in _members(value):
        what = member.func if isinstance(member, functools.cached_property) else member
        if isinstance(member, (property, functools.cached_property)):
            function = member.fget if isinstance(member, property) else what
            returns = getattr(function, "__annotations__", {}).get("return", "")
            options = {"type": str(returns)} if returns else {}
            text.append(
                _directive("property", key, as_markdown(inspect.getdoc(function)), 3, options)
            )
        else:
            function = what.__func__ if isinstance(what, (classmethod, staticmethod)) else what
            kind = "classmethod" if isinstance(what, classmethod) else "method"
            signature = _signature(function, bound=not isinstance(what, staticmethod))
            text.append(
                _directive(kind, f"{key}{signature}", as_markdown(inspect.getdoc(function)), 3)
            )
    signature = "" if fields else _signature(value.__init__, bound=True)
    return _directive("class", f"{name}{signature}", "\n\n".join(text), 5)


def _members(value: type) -> Iterator[tuple[str, Any]]:
    """Documented public members that this package defines, in the order of their definition."""
    seen = (
        {field.name for field in dataclasses.fields(value)}
        if dataclasses.is_dataclass(value)
        else set()
    )
    for base in value.__mro__:
        if not base.__module__.startswith("ttc_env"):
            continue
        for key, member in vars(base).items():
            target = getattr(member, "__func__", getattr(member, "func", member))
            target = member.fget if isinstance(member, property) else target
            if (
                not key.startswith("_")
                and key not in seen
                and inspect.isfunction(target)
                and inspect.getdoc(target)
            ):
                seen.add(key)
                yield key, member


def _field_comments(value: type) -> dict[str, str]:
    """What stands beside, or above, the fields of a dataclass as comments."""
    found: dict[str, str] = {}
    for base in reversed(value.__mro__):
        if not (dataclasses.is_dataclass(base) and base.__module__.startswith("ttc_env")):
            continue
        above: list[str] = []
        for line in inspect.getsource(base).splitlines():
            text = line.strip()
            if text.startswith("#"):
                above.append(text.removeprefix("#").strip())
                continue
            if field := re.match(r"    (\w+): [^#]*?(?:  # (.*))?$", line):
                comment = " ".join([*above, field[2] or ""]).strip()
                found[field[1]] = _shapes_as_code(comment)
            above = []
    return found


def _shapes_as_code(comment: str) -> str:
    return re.sub(r"^(\[[\w, .+]*\])", r"`\1`", comment)


class _Raw:
    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _signature(function: Any, bound: bool = False) -> str:
    """The signature, with annotations as they are written."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1 if bound else 0 :]

    def raw(annotation: Any) -> Any:
        return _Raw(annotation) if isinstance(annotation, str) else annotation

    parameters = [p.replace(annotation=raw(p.annotation)) for p in parameters]
    return str(
        signature.replace(parameters=parameters, return_annotation=raw(signature.return_annotation))
    )


def _directive(
    kind: str, head: str, text: str, depth: int = 4, options: dict[str, str] | None = None
) -> str:
    fence = ":" * (depth + 2)
    lines = [f"{fence}{{py:{'method' if kind == 'classmethod' else kind}}} {head}"]
    if kind == "classmethod":
        lines.append(":classmethod:")
    lines += [f":{key}: {value}" for key, value in (options or {}).items()]
    return "\n".join([*lines, "", text.rstrip(), fence])


SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Attributes):$", flags=re.MULTILINE)


def as_markdown(docstring: str | None) -> str:
    """A docstring as Markdown: its sections (`Args:`) as lists, its headings as bold lines."""
    lines = (docstring or "").splitlines()
    result: list[str] = []
    k = 0
    while k < len(lines):
        line = lines[k]
        if heading := re.match(r"#+ (.*)$", line):
            result.append(f"**{heading[1]}**")
        elif section := SECTION.match(line):
            result += ["", f"**{section[1].replace('Args', 'Arguments')}**", ""]
            k += 1
            while k < len(lines) and (lines[k].startswith("    ") or not lines[k].strip()):
                item = re.match(r"    (\*{0,2}\w[\w, .*]*): (.*)$", lines[k])
                if item:
                    names = ", ".join(f"`{name.strip()}`" for name in item[1].split(","))
                    result.append(f"- {names}: {item[2]}")
                elif lines[k].startswith("     "):
                    result.append("  " + lines[k].strip())
                else:
                    result.append(lines[k].strip())
                k += 1
            continue
        else:
            result.append(line)
        k += 1
    return "\n".join(result)


def written() -> Iterator[tuple[str, str | bytes]]:
    """All pages and pictures that are written from the code: (file, content)."""
    for name in PETTINGZOO_IDS:
        yield from environment_page(name)
    for name in GYMNASIUM_IDS:
        yield page_of(name), provider_page(name)
    yield from reference_pages()


def provider_page(name: str) -> str:
    """The page of the single-agent id: the class's own docstring, and an episode."""
    text = (inspect.getdoc(ttc_env.ProviderEnv) or "").strip()
    return f"# {name.split('/')[1]}\n\n{text}\n\n## Example\n\n```python\n{example(name)}```\n"
