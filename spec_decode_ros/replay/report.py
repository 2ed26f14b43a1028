"""Report of a replay: a table for people, plain values for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.replay.bag import BagRecording, skipped_notes
from spec_decode_ros.replay.compare import NOTHING_RECORDED, ComparedAction, ReplayComparison

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_ROWS = 60
"""Rows of the table at most; a longer replay shows only what differs."""


def as_document(
    recording: BagRecording, comparison: ReplayComparison, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain values for JSON, together with the `settings`."""
    recorded_ms, replayed_ms = comparison.latency_ms
    vx, wz = comparison.largest
    values = {
        name: [stats[name] for stats in comparison.stats if isinstance(stats.get(name), (int, float))]
        for name in METRICS
    }
    return {
        "bag": str(recording.path),
        "image_topic": recording.image_topic,
        "recorded_with": dict(recording.origin),
        **settings,
        "passed": comparison.passed,
        "failures": list(comparison.failures),
        "recorded_actions": comparison.recorded,
        "replayed_actions": comparison.replayed,
        "compared": comparison.compared,
        "differences": comparison.differences,
        "not_compared": comparison.not_compared,
        "largest_difference": {"vx": round(vx, 4), "wz": round(wz, 4)},
        "latency_ms": {"recorded": _rounded(recorded_ms), "replayed": _rounded(replayed_ms)},
        "medians": {
            name: round(statistics.median(found), 4) if found else None for name, found in values.items()
        },
        "skipped_frames": len(comparison.skipped),
        "notes": [*recording.notes, *skipped_notes(comparison.skipped)],
        "rows": [_plain(row) for row in comparison.rows],
    }


def _plain(row: ComparedAction) -> dict[str, Any]:
    rounded = {"recorded_ms": _rounded(row.recorded_ms), "replayed_ms": _rounded(row.replayed_ms)}
    return {**vars(row), "at_s": round(row.at_s, 3), **rounded}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def print_report(console: Console, recording: BagRecording, comparison: ReplayComparison, title: str) -> None:
    """Print the table and the result."""
    rows = list(comparison.rows)
    short = len(rows) > SHOWN_ROWS
    if short:
        rows = [row for row in rows if row.same is False][:SHOWN_ROWS]
    if rows:
        console.print(_table(rows, title, comparison.recorded > 0))
    if short:
        console.print(f"{len(comparison.rows)} actions; shown are up to {SHOWN_ROWS} that differ")
    for note in (*recording.notes, *skipped_notes(comparison.skipped)):
        console.print(f"note: {note}")
    recorded_ms, replayed_ms = comparison.latency_ms
    if replayed_ms is not None:
        before = f", recorded {recorded_ms:.0f}" if recorded_ms is not None else ""
        console.print(f"frame to verified action, median: {replayed_ms:.0f} ms{before}")
    for reason, count in comparison.not_compared.items():
        if comparison.recorded or reason != NOTHING_RECORDED:
            console.print(f"not compared: {count}, because {reason}")
    console.print(_result(comparison))


def _table(rows: list[ComparedAction], title: str, compared: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 1))
    table.add_column("s", justify="right", no_wrap=True)
    if compared:
        table.add_column("recorded")
    table.add_column("replayed")
    if compared:
        table.add_column("ms then", justify="right")
    table.add_column("ms now" if compared else "ms", justify="right")
    shown = None
    for row in rows:
        if row.instruction != shown:
            shown = row.instruction
            table.add_row("", Text(f"“{shown}”", style="bold"))
        style = {True: "", False: "bold red", None: "dim"}[row.same]
        cells: list[Any] = [f"{row.at_s:.1f}"]
        if compared:
            cells.append(Text(_said(row.recorded, row.recorded_velocities), style=style))
        now = "same" if row.same and row.recorded == row.replayed else _said(row.replayed, None)
        cells.append(Text(now or "–", style=style if now != "same" else "green"))
        if compared:
            cells.append("" if row.recorded_ms is None else f"{row.recorded_ms:.0f}")
        cells.append("" if row.replayed_ms is None else f"{row.replayed_ms:.0f}")
        table.add_row(*cells)
    return table


def _said(text: str | None, velocities: tuple[float, float] | None) -> str:
    if text is not None:
        return text
    return f"vx {velocities[0]:g} wz {velocities[1]:g}" if velocities else ""


def _result(comparison: ReplayComparison) -> Any:
    from rich.text import Text

    if not comparison.recorded:
        return f"{comparison.replayed} actions; the bag has none to compare them with"
    if not comparison.passed:
        return Text("DIFFERS", "red") + Text(f": {'; '.join(comparison.failures)}")
    what = "the same text" if comparison.tolerance.velocity is None else "velocities within the tolerance"
    same = comparison.compared - comparison.differences
    return Text("SAME", "green") + Text(f": {same} of {comparison.compared} actions: {what}")
