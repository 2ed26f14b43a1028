"""A typical action of a comparison, drawn by every method."""

from __future__ import annotations

from pathlib import Path

from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.lab.bench.comparison import MethodComparison


def draw_timeline(comparison: MethodComparison, out: Path, caption: str) -> Path:
    """A typical frame, by every method."""
    from spec_decode_ros.viz.timeline import ActionTimeline, draw_timelines

    methods = list(comparison.results)
    place = comparison.typical()
    actions = []
    for method in methods:
        result = comparison.results[method][place]
        stats = result.stats
        passes = _count(stats["cloud_passes"], "target pass", "target passes")
        note = f"{passes}, {_count(stats['round_trips'], 'round trip')}"
        verified = float(stats["ttva_ms"] or stats["total_ms"] or 0.0)
        first = stats["ttfa_ms"] if stats["drafted_on_edge"] else None
        spans = tuple(_visible(result, verified))
        actions.append(ActionTimeline(method, spans, verified, None if first is None else float(first), note))
    return draw_timelines(actions, out, title="Where the milliseconds of one action go", subtitle=caption)


def _count(value: float | int | str | None, one: str, many: str = "") -> str:
    number = int(value or 0)
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def _visible(result: ActionResult, verified: float) -> list[tuple[str, str, float, float]]:
    """What happened until the action was verified; what tidies up afterwards is left out."""
    return [
        (lane, name, max(0.0, start), max(0.0, end))
        for lane, name, start, end in result.timeline
        if start < verified and not name.startswith(("ping", "pong", "opened", "close"))
    ]
