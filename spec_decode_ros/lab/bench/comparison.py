"""Methods side by side on the same frames, alternating, and the numbers that every comparison reports."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.decoding.messages import Sampler, Sampling
from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.edge.runtime import ActionResult, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client


@dataclass(frozen=True)
class Sample:
    """One moment of a mission: what the camera saw, what was asked, and the action before (None: the first).

    `pose` is where the robot was, x and y in metres and yaw in radians.
    """

    jpeg: bytes
    instruction: str
    last_action: str | None
    pose: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"median": round(self.median, 4), "p25": round(self.low, 4), "p75": round(self.high, 4)}

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class MethodComparison:
    """Results by method, one for each sample, in the samples' order."""

    samples: Sequence[Sample]
    results: dict[str, list[ActionResult]] = field(default_factory=dict)

    def spread(self, method: str, metric: str) -> Spread | None:
        """Of one number over all samples; None where it does not apply to the method."""
        if metric == "capacity":
            busy = self.spread(method, "cloud_busy_ms")
            if busy is None or not busy.low > 0:
                return None
            # One model at work all the time: how many robots that act once a period it can serve.
            period_ms = ACTION_PERIOD_S * 1000
            return Spread(period_ms / busy.median, period_ms / busy.high, period_ms / busy.low)
        values = [result.stats.get(metric) for result in self.results[method]]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return Spread.of(numbers) if numbers else None

    def total(self, method: str, metric: str) -> float:
        """Sum of one number over all samples, those apart to which it does not apply."""
        values = (result.stats.get(metric) for result in self.results[method])
        return sum(float(value) for value in values if isinstance(value, (int, float)))

    def agreement(self, one: str, other: str) -> int:
        """For how many samples two methods gave the same tokens."""
        pairs = zip(self.results[one], self.results[other], strict=True)
        return sum(a.tokens == b.tokens for a, b in pairs)

    def typical(self) -> int:
        """Index of the sample whose times to the verified action are nearest to every method's median."""
        distance = [0.0] * len(self.samples)
        for method, results in self.results.items():
            middle = self.spread(method, "ttva_ms")
            if middle is not None and middle.median > 0:
                for index, result in enumerate(results):
                    distance[index] += abs(float(result.stats["ttva_ms"] or 0.0) / middle.median - 1.0)
        return distance.index(min(distance))

    def as_dict(self) -> dict[str, dict[str, dict[str, float] | None]]:
        """For JSON: method, number, then median and quartiles."""
        table: dict[str, dict[str, dict[str, float] | None]] = {}
        for method in self.results:
            table[method] = {}
            for metric in (*METRICS, "capacity"):
                spread = self.spread(method, metric)
                table[method][metric] = spread.as_dict() if spread else None
        return table


def compare(
    samples: Sequence[Sample],
    drafter: Drafter,
    client: Client,
    *,
    methods: Sequence[str] = ("cloud", "auto"),
    style: str = "trained",
    max_tokens: int = 64,
    warm_up: int = 2,
    sampling: Sampling | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> MethodComparison:
    """Decode every sample by every method; the method that goes first changes from sample to sample.

    Args:
        samples: at least one.
        drafter: of the pair that the client's server verifies.
        client: connected to the verifier.
        methods: names of methods.
        style: the pair's prompt.
        max_tokens: longest answer.
        warm_up: so many of the first samples are decoded beforehand, unmeasured.
        sampling: how tokens are chosen, by default greedily; each sample has a seed of its own, from the given one on.
        enough: asked after every sample; true ends the comparison early.

    Raises:
        SpecDecodeError: without samples, or if an action fails.
    """
    if not samples:
        raise SpecDecodeError("a comparison needs at least one frame")
    runtimes = {
        name: EdgeRuntime(drafter, client, name, max_tokens=max_tokens, fallback=False) for name in methods
    }
    results: dict[str, list[ActionResult]] = {name: [] for name in methods}
    first = sampling or Sampling()
    try:
        for sample in samples[:warm_up]:
            for runtime in runtimes.values():
                _act(runtime, drafter, sample, style, replace(first, sampler=Sampler.GUMBEL))
        for count, sample in enumerate(samples, start=1):
            order = list(methods) if count % 2 else list(reversed(methods))
            for name in order:
                seeded = replace(first, seed=first.seed + count)
                results[name].append(_act(runtimes[name], drafter, sample, style, seeded))
            if enough():
                break
    finally:
        for runtime in runtimes.values():
            runtime.close()
    return MethodComparison(samples[:count], results)


def _act(
    runtime: EdgeRuntime, drafter: Drafter, sample: Sample, style: str, sampling: Sampling
) -> ActionResult:
    prompt = build_prompt(sample.instruction, sample.last_action, cast(PromptStyle, style))
    last: tuple[int, ...] = ()
    if sample.last_action:
        last = tuple(drafter.encode(sample.last_action))
        if len(drafter.eos_ids) == 1:
            # As on the robot, where the last answer is kept with the token that ended it.
            last += tuple(drafter.eos_ids)
    return runtime.act(prompt, [sample.jpeg], last, sampling=sampling)


def speedup(comparison: MethodComparison, slow: str, fast: str) -> Mapping[str, float]:
    """How many times sooner (`ttva`) and with how many times fewer passes and less compute, by medians."""
    ratios = {}
    for name, metric in (
        ("ttva", "ttva_ms"),
        ("cloud_passes", "cloud_passes"),
        ("cloud_busy", "cloud_busy_ms"),
    ):
        before, after = comparison.spread(slow, metric), comparison.spread(fast, metric)
        if before and after and after.median > 0:
            ratios[name] = round(before.median / after.median, 3)
    return ratios


def early_exit_hits(comparison: MethodComparison) -> dict[str, dict[str, float]]:
    """By method: how often early exits foresaw, their share of hits, and what drafting on from that was worth."""
    found = {}
    for method in comparison.results:
        if told := comparison.total(method, "predictions"):
            found[method] = {
                "predictions": told,
                "hit_rate": comparison.total(method, "prediction_hits") / told,
                "saved_ms": comparison.total(method, "preemptive_saved_ms"),
                "wasted_ms": comparison.total(method, "preemptive_wasted_ms"),
            }
    return found
