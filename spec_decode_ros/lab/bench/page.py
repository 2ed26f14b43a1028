"""Writes BENCHMARKS.md from the JSON documents of `bench`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.tables import fleet_lines
from spec_decode_ros.lab.bench.tables import remarks, spread_text
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


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The whole page, one section per document, in their order."""
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
    return [f"### {link['name']}, {link['samples']} samples", "", *table.markdown(), "", *notes, ""]


def write_page(files: Sequence[Path], out: Path) -> None:
    """Write the page of some documents into an existing folder. Raises SpecDecodeError."""
    try:
        text = page([_read(path) for path in files])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise SpecDecodeError(
            f"these files are no bench documents (no {error}): write them with `bench --json`"
        ) from error
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"cannot write {out}: {error.strerror or error}") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SpecDecodeError(f"{path} is no JSON document: {error}") from error
