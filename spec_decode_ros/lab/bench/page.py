"""Writes BENCHMARKS.md from the JSON documents of `bench`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_text
from spec_decode_ros.lab.bench.fleet.tables import capacity_table, fleet_lines
from spec_decode_ros.lab.bench.tables import group_table, remarks, spread_text
from spec_decode_ros.lab.text_table import TextTable

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

_TIMES = "Milliseconds from the capture of a frame, or from the question or sentence, to the verified result, medians."
_CAPACITIES = "Robots that one server carries while the p95 of the time to the verified action stays below a bound, in ms."


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The whole page: one table for each suite, then one section for each document, in their order."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for document in documents:
        runs.setdefault((document["suite"], document["pair"]), []).append(document)
    summaries = [line for (suite, pair), found in runs.items() for line in _summary(suite, pair, found)]
    return "\n".join([_HEAD, *summaries, *map(_section, documents)])


def _summary(suite: str, pair: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    tables = [capacity_table(run["fleet"]) if run.get("fleet") else _times(run) for run in runs]
    again = f" {len(tables)} runs, one after the other." if len(tables) > 1 else ""
    about = (_CAPACITIES if runs[0].get("fleet") else _TIMES) + again
    return [f"## `{suite}`, pair `{pair}`, in short", "", about, "", *_together(tables).markdown(), ""]


def _times(document: Mapping[str, Any]) -> TextTable:
    """Median time to the verified result of each method through each link."""
    links = document["links"]
    methods = dict.fromkeys(name for link in links for name in link["methods"])
    rows = [[f"`{name}`", *(_median(link["methods"].get(name, {})) for link in links)] for name in methods]
    return TextTable(["", *(link["name"] for link in links)], rows)


def _together(tables: Sequence[TextTable]) -> TextTable:
    """Tables of several runs in one: the cells of a place with a slash between them."""
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    cells = [
        {str(row[0]): dict(zip(table.columns, map(str, row), strict=True)) for row in table.rows}
        for table in tables
    ]
    names = list(dict.fromkeys(name for found in cells for name in found))
    rows = [
        [
            name,
            *(" / ".join(found.get(name, {}).get(column, "–") for found in cells) for column in columns[1:]),
        ]
        for name in names
    ]
    return TextTable(columns, rows)


def _median(figures: Mapping[str, Any]) -> str:
    return spread_text("ttva_ms", figures.get("ttva_ms"), "{}")


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
        rows = [[name, spread_text("tokens_per_s", row["tokens_per_s"])] for name, row in peers.items()]
        lines += ["### transformers' own ways, on the same cores, tokens a second", ""]
        lines += [*TextTable(["", "tokens/s"], rows).markdown(), ""]
    return "\n".join(lines)


def _link(link: Mapping[str, Any]) -> list[str]:
    methods: Mapping[str, Mapping[str, Any]] = link["methods"]
    known = [*_METRICS, *sorted({m for figures in methods.values() for m in figures} - _METRICS.keys())]
    shown = [metric for metric in known if any(figures.get(metric) for figures in methods.values())]
    rows = [
        [f"`{name}`", *(spread_text(metric, figures.get(metric)) for metric in shown)]
        for name, figures in methods.items()
    ]
    table = TextTable(["", *(_METRICS.get(m, m.replace("_", " ")) for m in shown)], rows)
    notes = [f"- {line}" for line in remarks(link)]
    lines = [f"### {link['name']}, {link['samples']} samples", "", *table.markdown(), "", *notes, ""]
    if groups := group_table(link):
        lines += ["To verified, ms:", "", *groups.markdown(), ""]
    return lines


def write_page(files: Sequence[Path], out: Path) -> None:
    """Write the page of some documents. Raises SpecDecodeError."""
    try:
        text = page([_read(path) for path in files])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise SpecDecodeError(
            f"these files are no bench documents (no {error}): write them with `bench --json`"
        ) from error
    write_text(out, text)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SpecDecodeError(f"{path} is no JSON document: {error}") from error
