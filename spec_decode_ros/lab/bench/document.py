"""The JSON document of a comparison suite, from which tables, plots and the benchmark page are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread, early_exit_hits
from spec_decode_ros.lab.bench.machine import machine
from spec_decode_ros.lab.bench.suite import NamedLink
from spec_decode_ros.lab.network.link import LinkProfile


def document(
    suite: str, pair: str, command: str, results: Sequence[tuple[NamedLink, MethodComparison]], **more: Any
) -> dict[str, Any]:
    """The document of a suite: the command line that was typed, a comparison per link, and `more` fields of its own."""
    return {**heading(suite, pair, command), **more, "links": [link_document(*result) for result in results]}


def heading(suite: str, pair: str, command: str) -> dict[str, Any]:
    """The first fields of every document: what was run, and on what machine."""
    return {"suite": suite, "pair": pair, "command": command, "machine": machine()}


def link_document(link: NamedLink, comparison: MethodComparison) -> dict[str, Any]:
    """The part of the document about one link."""
    defaults = asdict(LinkProfile())
    first, *others = comparison.results
    bound, overhead = bound_ms(comparison, link.profile), overhead_ms(comparison, link.profile)
    return {
        "name": link.name,
        "rtt_ms": link.profile.rtt_ms,
        "profile": {name: value for name, value in asdict(link.profile).items() if value != defaults[name]},
        "samples": len(comparison.samples),
        "same_tokens": {name: comparison.agreement(first, name) for name in others},
        "bound_ms": bound and bound.as_dict(),
        "overhead_ms": overhead and overhead.as_dict(),
        "methods": comparison.as_dict(),
        "early_exit": early_exit_hits(comparison),
        "groups": {name: _group(comparison.group(name)) for name in comparison.groups},
    }


def _group(part: MethodComparison) -> dict[str, Any]:
    return {
        "samples": len(part.samples),
        "ttva_ms": {name: figures["ttva_ms"] for name, figures in part.as_dict().items()},
    }


def bound_ms(comparison: MethodComparison, profile: LinkProfile) -> Spread | None:
    """Lower bound on the time to the verified action: upload of the frame, one round trip and one prefill pass.

    None without the method `cloud`, whose first pass is the prefill alone.
    """
    if "cloud" not in comparison.results:
        return None
    results = comparison.results["cloud"]
    return Spread.of([_link_ms(r, profile) + float(r.stats["prefill_ms"] or 0.0) for r in results])


def overhead_ms(comparison: MethodComparison, profile: LinkProfile) -> Spread | None:
    """Time to the verified action with `auto`, less target compute and the delay of the link.

    An upper bound, for it contains the time in which the target waits for a draft. None without `auto`, and for a link
    whose delay varies.
    """
    if "auto" not in comparison.results or profile.jitter_ms or profile.loss or profile.trace:
        return None
    rest = []
    for result in comparison.results["auto"]:
        waited = _link_ms(result, profile) + float(result.stats["cloud_busy_ms"] or 0.0)
        rest.append(float(result.stats["ttva_ms"] or 0.0) - waited)
    return Spread.of(rest)


def _link_ms(result: ActionResult, profile: LinkProfile) -> float:
    """One round trip, and the upload of the frame."""
    kilobits = float(result.stats["image_bytes"] or 0) * 8e-3
    return profile.rtt_ms + (kilobits / profile.uplink_mbps if profile.uplink_mbps else 0.0)
