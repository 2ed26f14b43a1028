"""BENCHMARKS.md, out of the documents that `bench` and `simulate` have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spec_decode_ros.lab.bench.fleet_tables import fleet_lines

_METRICS = {
    "ttva_ms": "to verified, ms",
    "ttfa_ms": "to first, ms",
    "ttft_ms": "to first token, ms",
    "tpot_ms": "per token, ms",
    "acceptance_rate": "accepted",
    "accepted_length": "tokens a pass",
    "round_trips": "round trips",
    "cloud_passes": "passes",
    "cloud_busy_ms": "compute, ms",
    "uplink_bytes": "bytes up",
    "downlink_bytes": "bytes down",
    "capacity": "robots a server",
}

_HEAD = """# Benchmarks

Written by `spec-decode report`: every figure below is from the JSON document of one run, named with the command that
makes it again. Medians, with quartiles in brackets. Within a run methods alternate sample by sample, so that a machine that
grows slower does so for all. *robots a server* is how many robots that act three times a second one target could serve if it
did nothing else.
"""


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The whole page, one section a document, in their order."""
    return "\n".join([_HEAD, *map(_section, documents)])


def _section(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    lines = [
        f"## Suite `{document['suite']}`, pair `{document['pair']}`",
        "",
        f"`{document['command']}`",
        "",
        f"On {machine['cores']} cores of {machine['processor']}, accelerator: {machine['accelerator']}; "
        f"{machine['system']}, torch {machine['torch']}, transformers {machine['transformers']}.",
        "",
    ]
    for link in document["links"]:
        lines += _link(link)
    if fleet := document.get("fleet"):
        lines += fleet_lines(fleet)
    if peers := document.get("peers"):
        lines += _peers(peers)
    return "\n".join(lines)


def _link(link: Mapping[str, Any]) -> list[str]:
    methods: Mapping[str, Mapping[str, Any]] = link["methods"]
    shown = [m for m in _METRICS if any(figures.get(m) for figures in methods.values())]
    extra = sorted({m for figures in methods.values() for m in figures} - _METRICS.keys())
    shown += [m for m in extra if any(figures.get(m) for figures in methods.values())]
    lines = [f"### {link['name']}, {link['samples']} samples", ""]
    lines.append("| | " + " | ".join(_METRICS.get(m, m.replace("_", " ")) for m in shown) + " |")
    lines.append("|---" * (len(shown) + 1) + "|")
    for method, figures in methods.items():
        cells = (_cell(m, figures.get(m)) for m in shown)
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return [*lines, "", *_remarks(link), ""]


def _cell(metric: str, spread: Mapping[str, float] | None) -> str:
    if not spread:
        return "–"
    digits = 2 if metric in ("acceptance_rate", "accepted_length") else 0 if spread["median"] >= 100 else 1
    median, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "p25", "p75"))
    return f"{median} ({low}–{high})"


def _remarks(link: Mapping[str, Any]) -> list[str]:
    methods = link["methods"]
    times = {name: figures["ttva_ms"]["median"] for name, figures in methods.items() if figures["ttva_ms"]}
    first = next(iter(methods))
    different = [name for name, same in link["same_tokens"].items() if same != link["samples"]]
    lines = [
        f"- Tokens: the same as `{first}`'s from every method in every sample."
        if not different
        else f"- Tokens differ from `{first}`'s in some samples: {', '.join(different)}."
    ]
    if "auto" in times and len(times) > 1:
        lines.append(_verdict(times))
    if bound := link.get("bound_ms"):
        text = f"- Upload, one round trip and one prefill take {bound['median']:.1f} ms: no method can be sooner."
        if "auto" in times:
            text += f" `auto` takes {times['auto'] / bound['median']:.2f} times that."
        lines.append(text)
    if rest := link.get("overhead_ms"):
        lines.append(
            f"- `auto` takes {rest['median']:.1f} ms beside target compute and the link's delay: encoding, threads, "
            "sockets, and waiting for drafts."
        )
    for method, told in link.get("early_exit", {}).items():
        lines.append(
            f"- Early exits for `{method}`: {told['hit_rate']:.0%} of {told['foresights']:.0f} foresights were hits; "
            f"drafting on from them saved {told['saved_ms']:.0f} ms and wasted {told['wasted_ms']:.0f} ms."
        )
    return lines


def _verdict(times: Mapping[str, float]) -> str:
    others = {name: ms for name, ms in times.items() if name != "auto"}
    best = min(others, key=lambda name: others[name])
    ratio = others[best] / times["auto"]
    if ratio >= 1:
        text = f"- `auto` is the soonest, {ratio:.2f} times as fast as the next, `{best}`"
    else:
        text = f"- **`auto` loses** to `{best}`: it takes {1 / ratio:.2f} times as long"
    if "cloud" in others and best != "cloud":
        text += f"; beside `cloud` it is {others['cloud'] / times['auto']:.2f} times as fast"
    return text + "."


def _peers(peers: Mapping[str, Any]) -> list[str]:
    lines = [
        "### transformers' own ways, on the same cores, tokens a second",
        "",
        "| | tokens/s |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_cell('tokens_per_s', row['tokens_per_s'])} |" for name, row in peers.items()]
    return [*lines, ""]
