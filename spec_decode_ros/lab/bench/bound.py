"""How soon an action could be verified at all, and what of a time is neither the models' nor the link's."""

from __future__ import annotations

from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread
from spec_decode_ros.lab.network.link import LinkProfile

ALONE = "cloud"
"""The method whose first pass is the prefill and nothing else."""

AUTO = "auto"


def bound_ms(comparison: MethodComparison, profile: LinkProfile) -> Spread | None:
    """Upload of the frame, one round trip and one prefill pass, in milliseconds; None without the method `cloud`."""
    if ALONE not in comparison.results:
        return None
    results = comparison.results[ALONE]
    return Spread.of([_link_ms(r, profile) + float(r.stats["prefill_ms"] or 0.0) for r in results])


def overhead_ms(comparison: MethodComparison, profile: LinkProfile) -> Spread | None:
    """What the stack itself takes of `auto`: the time to the verified action less target compute and the link's delay.

    Time in which the target waited for a draft counts as the stack's, so this is an upper bound. None without the method
    `auto`, and for a link whose delays vary.
    """
    if AUTO not in comparison.results or profile.jitter_ms or profile.loss or profile.trace:
        return None
    rest = []
    for result in comparison.results[AUTO]:
        waited = _link_ms(result, profile) + float(result.stats["cloud_busy_ms"] or 0.0)
        rest.append(float(result.stats["ttva_ms"] or 0.0) - waited)
    return Spread.of(rest)


def _link_ms(result: ActionResult, profile: LinkProfile) -> float:
    """One round trip, and the upload of the frame."""
    kilobits = float(result.stats["image_bytes"] or 0) * 8e-3
    return profile.rtt_ms + (kilobits / profile.uplink_mbps if profile.uplink_mbps else 0.0)
