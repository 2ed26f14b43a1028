"""Runs several decoding methods on the same samples, in turns, and summarises their metrics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
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

Request = tuple[str, Sequence[bytes], Sequence[int]]
"""Prompt, images and the tokens of the last action, as `EdgeRuntime.act` takes them."""


@dataclass(frozen=True)
class Sample:
    """One step of a mission: camera frame, instruction, and the action before it (None for the first).

    `pose` is the robot's: x and y in metres, yaw in radians.
    """

    jpeg: bytes
    instruction: str
    last_action: str | None
    pose: tuple[float, float, float] | None = None

    def last_tokens(self, drafter: Drafter) -> tuple[int, ...]:
        """Tokens of the action before, with the end token, as the robot keeps them."""
        if not self.last_action:
            return ()
        end = drafter.eos_ids if len(drafter.eos_ids) == 1 else ()
        return (*drafter.encode(self.last_action), *end)


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
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class MethodComparison:
    """Results by method, one for each sample in the order of the samples, and the metrics that are reported.

    `groups` are samples that are also reported apart, by name the indices of each.
    """

    samples: Sequence[Sample]
    results: dict[str, list[ActionResult]] = field(default_factory=dict)
    metrics: tuple[str, ...] = (*METRICS, "capacity")
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def spread(self, method: str, metric: str) -> Spread | None:
        """Spread of one metric over the samples; None where the method does not have it."""
        if metric == "capacity":
            busy = self.spread(method, "cloud_busy_ms")
            if busy is None or not busy.low > 0:
                return None
            # Robots that act once a period and together keep one target busy all the time.
            period_ms = ACTION_PERIOD_S * 1000
            return Spread(period_ms / busy.median, period_ms / busy.high, period_ms / busy.low)
        numbers = self._numbers(method, metric)
        return Spread.of(numbers) if numbers else None

    def total(self, method: str, metric: str) -> float:
        """Sum of one metric over the samples that have it."""
        return sum(self._numbers(method, metric))

    def _numbers(self, method: str, metric: str) -> list[float]:
        values = (result.stats.get(metric) for result in self.results[method])
        return [float(value) for value in values if isinstance(value, (int, float))]

    def agreement(self, one: str, other: str) -> int:
        """Number of samples for which two methods gave the same tokens."""
        pairs = zip(self.results[one], self.results[other], strict=True)
        return sum(a.tokens == b.tokens for a, b in pairs)

    @property
    def same_tokens(self) -> bool:
        """Whether all methods gave the same tokens for all samples."""
        first, *others = self.results
        return all(self.agreement(first, other) == len(self.samples) for other in others)

    def group(self, name: str) -> MethodComparison:
        """The comparison on the samples of one group alone."""
        places = self.groups[name]
        results = {method: [found[place] for place in places] for method, found in self.results.items()}
        return MethodComparison([self.samples[place] for place in places], results, self.metrics)

    def typical(self) -> int:
        """Index of the sample whose `ttva_ms` is nearest to the median, over all methods."""
        distance = [0.0] * len(self.samples)
        for method, results in self.results.items():
            middle = self.spread(method, "ttva_ms")
            if middle is not None and middle.median > 0:
                for index, result in enumerate(results):
                    distance[index] += abs(float(result.stats["ttva_ms"] or 0.0) / middle.median - 1.0)
        return distance.index(min(distance))

    def as_dict(self) -> dict[str, dict[str, dict[str, float] | None]]:
        """For JSON: by method and metric, median and quartiles."""
        table: dict[str, dict[str, dict[str, float] | None]] = {}
        for method in self.results:
            spreads = {metric: self.spread(method, metric) for metric in self.metrics}
            table[method] = {metric: found.as_dict() if found else None for metric, found in spreads.items()}
        return table


@dataclass(frozen=True)
class ComparisonPlan:
    """What is compared: methods by name, with a prompt style, a longest answer, and samples that only warm up.

    Each sample is decoded with its own seed, counted up from that of `sampling`.
    """

    methods: Sequence[str] = ("cloud", "auto")
    style: str = "trained"
    max_tokens: int = 64
    warm_up: int = 2
    sampling: Sampling = field(default_factory=Sampling)


def compare(
    samples: Sequence[Sample],
    drafter: Drafter,
    client: Client,
    plan: ComparisonPlan,
    enough: Callable[[], bool] = lambda: False,
) -> MethodComparison:
    """Decode every sample by every method, with the drafter of the pair that the client's server verifies.

    `enough` is asked after every sample; true ends the comparison early. Raises SpecDecodeError without samples, or if an
    action fails.
    """
    if not samples:
        raise SpecDecodeError("a comparison needs at least one frame")
    style = cast(PromptStyle, plan.style)
    requests: list[Request] = [
        (build_prompt(s.instruction, s.last_action, style), [s.jpeg], s.last_tokens(drafter)) for s in samples
    ]
    with ExitStack() as stack:
        runtimes = {}
        for name in plan.methods:
            runtimes[name] = EdgeRuntime(drafter, client, name, max_tokens=plan.max_tokens, fallback=False)
            stack.callback(runtimes[name].close)
        for request in requests[: plan.warm_up]:
            decode_in_turns(runtimes, [request], replace(plan.sampling, sampler=Sampler.GUMBEL))
        seeded = replace(plan.sampling, seed=plan.sampling.seed + 1)
        results = decode_in_turns(runtimes, requests, seeded, enough)
    return MethodComparison(samples[: len(results[plan.methods[0]])], results)


def decode_in_turns(
    runtimes: Mapping[str, EdgeRuntime],
    requests: Iterable[Request],
    sampling: Sampling,
    enough: Callable[[], bool] = lambda: False,
) -> dict[str, list[ActionResult]]:
    """Decode every request by every runtime, in an order that is reversed from one request to the next.

    Each request has its own seed, counted up from that of `sampling`.
    """
    results: dict[str, list[ActionResult]] = {name: [] for name in runtimes}
    for count, (prompt, images, last_tokens) in enumerate(requests):
        seeded = replace(sampling, seed=sampling.seed + count)
        for name in runtimes if count % 2 == 0 else reversed(list(runtimes)):
            results[name].append(runtimes[name].act(prompt, images, last_tokens, sampling=seeded))
        if enough():
            break
    return results


def speedup(comparison: MethodComparison, slow: str, fast: str) -> dict[str, float]:
    """Ratios of the medians of two methods: time to the verified action, target passes and target compute."""
    ratios = {}
    metrics = {"ttva": "ttva_ms", "cloud_passes": "cloud_passes", "cloud_busy": "cloud_busy_ms"}
    for name, metric in metrics.items():
        before, after = comparison.spread(slow, metric), comparison.spread(fast, metric)
        if before and after and after.median > 0:
            ratios[name] = round(before.median / after.median, 3)
    return ratios


def early_exit_hits(comparison: MethodComparison) -> dict[str, dict[str, float]]:
    """By method: number of early-exit predictions, their hit rate, and the time that preemptive drafts saved and wasted."""
    found = {}
    for method in comparison.results:
        if predictions := comparison.total(method, "predictions"):
            found[method] = {
                "predictions": predictions,
                "hit_rate": comparison.total(method, "prediction_hits") / predictions,
                "saved_ms": comparison.total(method, "preemptive_saved_ms"),
                "wasted_ms": comparison.total(method, "preemptive_wasted_ms"),
            }
    return found
