"""One HTML file for a solved market or a comparison of rules: `ttc-env report`.

A page is the style, the scripts and the numbers, all in one file, which opens from disk and asks
the network for nothing. `assemble` makes it; the scripts beside this file draw it:

| file | is |
| --- | --- |
| `page.css` | the style: light and dark, phone and print |
| `charts.js` | lines, bars, heat maps, tables |
| `market.js` | a solved market, from `facts.facts`; the explorer shows it too |
| `comparison.js` | rules side by side, from `comparison.read` |
| `run.js` | a trained run, from `scripts.report` |
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from ttc_env.report import comparison
from ttc_env.report.facts import facts

if TYPE_CHECKING:
    from os import PathLike

    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.types import Market

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
<header class="page">
<h1>{title}</h1>
<p class="headline">{headline}</p>
<p class="detail">{detail}</p>
</header>
<main id="page"><noscript>The charts of this page need JavaScript.</noscript></main>
<footer class="page">{footer}</footer>
<script type="application/json" id="facts">{facts}</script>
<script>
{scripts}
const facts = JSON.parse(document.getElementById("facts").textContent);
{name}.show(document.getElementById("page"), facts);
</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return resources.files("ttc_env").joinpath("report", name).read_text(encoding="utf-8")


def embedded(content: Any) -> str:
    """JSON that may stand inside a script element: no `<` can end it early.

    Raises:
        ValueError: a NaN or an infinity, which JSON has not.
    """
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def assemble(
    content: Mapping[str, Any], *, title: str, scripts: Sequence[str], shown_by: str, footer: str
) -> str:
    """A page.

    Args:
        content: what the page shows; its `headline` and `detail` stand at the top.
        scripts: names of script files beside this one, in order, after `charts.js`.
        shown_by: the object in them whose `show(element, content)` draws the page.
        footer: plain text.
    """
    return _PAGE.format(
        title=html.escape(title),
        headline=html.escape(content["headline"]),
        detail=html.escape(content["detail"]),
        style=asset("page.css"),
        scripts="\n".join(map(asset, ("charts.js", *scripts))),
        facts=embedded(content),
        name=shown_by,
        footer=html.escape(footer),
    )


def market_page(market: Market, mechanism: str | Mechanism = "market") -> str:
    """The page of a market, solved under one rule and beside all others."""
    content = facts(market, mechanism)
    setting = content["setting"]
    return assemble(
        content,
        title=f"{setting['title']}: {setting['rule'].lower()}, beta = {market.beta:.4g}",
        scripts=("market.js",),
        shown_by="Market",
        footer=_written(),
    )


def comparison_page(folder: str | PathLike[str]) -> str:
    """The page of a folder that `ttc-env compare` wrote.

    Raises:
        ValueError, OSError: no table.csv there, or one without the columns that are shown.
    """
    content = comparison.read(folder)
    return assemble(
        content,
        title=f"Rules compared: {content['title']}",
        scripts=("comparison.js",),
        shown_by="Comparison",
        footer=_written(),
    )


def _written() -> str:
    import ttc_env

    return (
        f"Written by ttc-env {ttc_env.__version__}. Every number is the exact solver's. The game"
        " and the auction are from Artola Velasco et al., Test-Time Compute Games, arXiv"
        " 2601.21839."
    )
