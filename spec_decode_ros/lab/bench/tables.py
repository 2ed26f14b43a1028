"""Prints the results of a comparison as a table and remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread
from spec_decode_ros.lab.bench.document import link_document
from spec_decode_ros.lab.bench.suite import NamedLink
from spec_decode_ros.lab.text_table import TextTable

SHOWN = ("ttva_ms", "ttfa_ms", "cloud_passes", "cloud_busy_ms", "acceptance_rate", "round_trips")
"""Metrics on the terminal; the page has all."""

_TWO_LINES = "{}\n{}–{}"


def spread_text(metric: str, spread: Mapping[str, float] | None, between: str = "{} ({}–{})") -> str:
    """Median and quartiles of a metric, as a document has them; a dash for None."""
    if not spread:
        return "–"
    digits = 2 if metric in ("acceptance_rate", "accepted_length") else 0 if spread["median"] >= 100 else 1
    return between.format(*(f"{spread[name]:.{digits}f}" for name in ("median", "p25", "p75")))


def print_comparison(
    console: Console,
    link: NamedLink,
    comparison: MethodComparison,
    *,
    separate: bool = False,
    shown: Sequence[str] = SHOWN,
) -> None:
    """Print a comparison through one link; `separate` is for rejection sampling, where tokens may differ."""
    found = link_document(link, comparison)
    rows: list[list[str | Text]] = [
        [name, *(_dimmed(spread_text(m, figures[m], _TWO_LINES)) for m in shown)]
        for name, figures in found["methods"].items()
    ]
    title = f"{link.name}: medians (quartiles) of {found['samples']} samples"
    TextTable(["", *(metric.replace("_", "\n", 1) for metric in shown)], rows, title).print(console)
    if groups := group_table(found, _TWO_LINES):
        cells: list[list[str | Text]] = [
            [str(name), *(_dimmed(str(cell)) for cell in row)] for name, *row in groups.rows
        ]
        TextTable(groups.columns, cells, groups.title).print(console)
    about_tokens, *others = remarks(found)
    for line in (_rejections(comparison) if separate else about_tokens, *others):
        console.print(line)


def _dimmed(cell: str) -> Text:
    """The second line is of less weight."""
    first, *others = cell.split("\n")
    return Text("\n").join((Text(first), *(Text(line, "dim") for line in others)))


def group_table(link: Mapping[str, Any], between: str = "{} ({}–{})") -> TextTable | None:
    """Time to the verified answer of each method in each group of samples; None where there are no groups."""
    groups = link.get("groups", {})
    if not groups:
        return None
    columns = ["", *(f"{name}, {found['samples']} samples" for name, found in groups.items())]
    rows = [
        [name, *(spread_text("ttva_ms", found["ttva_ms"][name], between) for found in groups.values())]
        for name in link["methods"]
    ]
    return TextTable(columns, rows, "ttva_ms")


def _rejections(comparison: MethodComparison) -> str:
    """Number and size of the distributions that separate rejection sampling sent."""
    stats = [result.stats for results in comparison.results.values() for result in results]
    sizes = [float(found["rejection_bytes"] or 0) for found in stats if found["rejections"]]
    if not sizes:
        return "nothing was rejected"
    count = sum(int(found["rejections"] or 0) for found in stats)
    return f"{count} rejections, {Spread.of(sizes).median:.0f} bytes each (median)"


def remarks(link: Mapping[str, Any]) -> list[str]:
    """Sentences about the part of a document on one link; the first one is about the tokens."""
    methods = link["methods"]
    times = {name: figures["ttva_ms"]["median"] for name, figures in methods.items() if figures["ttva_ms"]}
    first = next(iter(methods))
    different = [name for name, same in link["same_tokens"].items() if same != link["samples"]]
    lines = [
        f"Tokens: the same as `{first}`'s from every method in every sample."
        if not different
        else f"Tokens differ from `{first}`'s in some samples: {', '.join(different)}."
    ]
    if "auto" in times and len(times) > 1:
        lines.append(_auto_against_others(times))
    if bound := link.get("bound_ms"):
        text = (
            f"Upload, one round trip and one prefill take {bound['median']:.1f} ms: no method can be sooner."
        )
        if "auto" in times:
            text += f" `auto` takes {times['auto'] / bound['median']:.2f} times that."
        lines.append(text)
    if overhead := link.get("overhead_ms"):
        lines.append(
            f"`auto` takes {overhead['median']:.1f} ms in addition to target compute and the link's delay: encoding, "
            "threads, sockets, and waiting for drafts."
        )
    for method, use in link.get("early_exit", {}).items():
        lines.append(
            f"Early exits for `{method}`: {use['hit_rate']:.0%} of {use['predictions']:.0f} predictions were hits; "
            f"drafting on from them saved {use['saved_ms']:.0f} ms and wasted {use['wasted_ms']:.0f} ms."
        )
    return lines


def _auto_against_others(times: Mapping[str, float]) -> str:
    others = {name: ms for name, ms in times.items() if name != "auto"}
    best = min(others, key=lambda name: others[name])
    ratio = others[best] / times["auto"]
    if ratio >= 1:
        text = f"`auto` is the soonest, {ratio:.2f} times as fast as the next, `{best}`"
    else:
        text = f"**`auto` loses** to `{best}`: it takes {1 / ratio:.2f} times as long"
    if "cloud" in others and best != "cloud":
        text += f"; compared with `cloud` it is {others['cloud'] / times['auto']:.2f} times as fast"
    return text + "."
