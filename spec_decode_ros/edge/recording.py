"""Records one action: the numbers that every report has, and a timeline of robot, link and cloud."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from spec_decode_ros.actions.action import parse_velocity_prefix
from spec_decode_ros.decoding.commands import Counts, Done
from spec_decode_ros.decoding.messages import Committed, Message, Open, Opened
from spec_decode_ros.edge.measurements import ActionTimings

Span = tuple[str, str, float, float]
"""Lane (robot, link or cloud), name, start and end in milliseconds since the frame was captured."""

Stats = dict[str, float | int | str | None]

METRICS = (
    "ttva_ms",
    "ttfa_ms",
    "ttft_ms",
    "tpot_ms",
    "acceptance_rate",
    "accepted_length",
    "round_trips",
    "uplink_bytes",
    "downlink_bytes",
    "cloud_passes",
    "cloud_busy_ms",
)
"""Numbers of one action that every report has, by the names that are used everywhere."""


_FASTEST_MBPS = 1000.0
"""More than that can't be told from the time of one frame."""


class Recorder:
    """Collects while one action runs. All times handed in are of `time.perf_counter`, in seconds.

    What the cloud does is not seen from the robot; its passes are placed by the time when their result arrived,
    less half the round-trip time, and by the compute time that the message reports.
    """

    def __init__(self, captured: float, rtt_ms: float | None) -> None:
        self._captured = captured
        self._rtt_ms = rtt_ms
        self._spans: list[Span] = []
        self._draft: tuple[float, float, int] | None = (
            None  # begin, end and tokens of the drafting that goes on
        )
        self._uplink_bytes = 0
        self._downlink_bytes = 0
        self._image_bytes = 0
        self._first_action_ms: float | None = None
        self._first_final_ms: float | None = None
        self._busy_ms = 0.0
        self._prefill_ms: float | None = None
        self._passes = 0
        self._rejections: dict[int, int] = {}  # bytes of the distribution, by the place that was rejected
        self._opens: list[tuple[float, int]] = []  # when the frame was sent, and its bytes
        self._upload_ms: float | None = None
        self.draft_token_ms: list[float] = []
        """What single tokens took the draft model, those apart that came with a prefill or a rollback."""
        self.step_ms: list[float] = []
        """What single passes took the target, the first one apart."""

    def ms(self, at: float) -> float:
        """Milliseconds since the frame was captured."""
        return (at - self._captured) * 1000.0

    def sent(self, message: Message, size: int, images: Sequence[bytes], at: float) -> None:
        self._uplink_bytes += size
        self._image_bytes += sum(map(len, images))
        if isinstance(message, Open):
            self._opens.append((at, size + sum(map(len, images))))
        start = self.ms(at)
        name = "frame up" if isinstance(message, Open) else f"{type(message).__name__.lower()} up"
        self._spans.append(("link", name, start, start + self._one_way_ms))

    def arrived(self, message: Message, size: int, at: float) -> None:
        self._downlink_bytes += size
        end = self.ms(at)
        name = f"{type(message).__name__.lower()} down"
        self._spans.append(("link", name, max(0.0, end - self._one_way_ms), end))
        if isinstance(message, Opened) and self._upload_ms is None and self._rtt_ms is not None:
            self._upload_ms = max(0.0, (at - self._opens[0][0]) * 1000.0 - self._rtt_ms)
        if isinstance(message, Committed) and message.sparse:
            self._rejections[message.position + len(message.tokens)] = len(message.sparse)
        if isinstance(message, Committed) and message.passes > self._passes:
            self._cloud_worked(message, end - self._one_way_ms)

    def drafted(self, began: float, at: float, first: bool) -> None:
        """One token of the draft model; `first` if it begins a new drafting."""
        if first or self._draft is None:
            self._end_draft()
            self._draft = (began, at, 1)
        else:
            start, _, count = self._draft
            self._draft = (start, at, count + 1)
            self.draft_token_ms.append((at - began) * 1000.0)

    def shown(self, text: str, ended: bool, final: int, at: float) -> None:
        """The answer so far is `text`, of which `final` tokens will not change; `ended` if nothing follows."""
        if self._first_action_ms is None and (ended or parse_velocity_prefix(text)):
            self._first_action_ms = self.ms(at)
        if final and self._first_final_ms is None:
            self._first_final_ms = self.ms(at)

    def measured(self) -> ActionTimings:
        """What this action tells about link and models; nothing about the link where its frame was sent twice."""
        uploads: list[float] = []
        bandwidths: list[float] = []
        if self._upload_ms is not None and len(self._opens) == 1:
            kilobits = self._opens[0][1] * 8 / 1000.0
            uploads.append(self._upload_ms)
            bandwidths.append(kilobits / max(self._upload_ms, kilobits / _FASTEST_MBPS))
        return ActionTimings(self.draft_token_ms, self.step_ms, uploads, bandwidths)

    def spans(self) -> tuple[Span, ...]:
        """The timeline, by lane and start."""
        self._end_draft()
        lanes = ("robot", "link", "cloud")
        return tuple(sorted(self._spans, key=lambda span: (lanes.index(span[0]), span[2])))

    def stats(self, done: Done, method: str, at: float) -> Stats:
        counts: Counts = done.counts
        end, count, first = self.ms(at), len(done.tokens), self._first_final_ms
        acted = self._first_action_ms
        token_ms = statistics.fmean(self.draft_token_ms) if self.draft_token_ms else 0.0
        if acted is None and done.complete:
            acted = end
        return {
            "method": method,
            "ttva_ms": end if done.verified else None,
            "ttfa_ms": acted,
            "ttft_ms": first,
            "tpot_ms": (end - first) / (count - 1) if first is not None and count > 1 else None,
            "total_ms": end,
            "acceptance_rate": counts.accepted / counts.drafted if counts.drafted else None,
            "accepted_length": count / counts.passes if counts.passes else None,
            "round_trips": counts.round_trips,
            "uplink_bytes": self._uplink_bytes,
            "downlink_bytes": self._downlink_bytes,
            "image_bytes": self._image_bytes,
            "cloud_passes": counts.passes,
            "cloud_busy_ms": counts.cloud_busy_ms,
            "prefill_ms": self._prefill_ms,
            "drafted": counts.drafted,
            "accepted": counts.accepted,
            "drafted_on_edge": counts.drafted_on_edge,
            "predictions": counts.predictions,
            "prediction_hits": counts.prediction_hits,
            "preemptive": counts.preemptive,
            "preemptive_used": counts.preemptive_used,
            "preemptive_saved_ms": counts.preemptive_used * token_ms,
            "preemptive_wasted_ms": (counts.preemptive - counts.preemptive_used) * token_ms,
            "branches_used": counts.branches_used,
            "rejections": len(self._rejections),
            "rejection_bytes": statistics.fmean(self._rejections.values()) if self._rejections else None,
            "rtt_ms": self._rtt_ms,
        }

    @property
    def _one_way_ms(self) -> float:
        return (self._rtt_ms or 0.0) / 2.0

    def _cloud_worked(self, message: Committed, end: float) -> None:
        took = max(0.0, message.busy_ms - self._busy_ms)
        name = "prefill and verify" if not self._passes else "verify"
        if self._prefill_ms is None and message.passes == 1:
            self._prefill_ms = took
        if self._passes:
            self.step_ms.append(took / (message.passes - self._passes))
        self._spans.append(("cloud", name, max(0.0, end - took), max(0.0, end)))
        self._busy_ms, self._passes = message.busy_ms, message.passes

    def _end_draft(self) -> None:
        if self._draft is not None:
            start, end, count = self._draft
            name = "draft 1 token" if count == 1 else f"draft {count} tokens"
            self._spans.append(("robot", name, max(0.0, self.ms(start)), max(0.0, self.ms(end))))
            self._draft = None
