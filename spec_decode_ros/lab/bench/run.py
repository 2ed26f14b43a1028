"""Runs a suite of `spec-decode bench`, prints its tables, and makes its JSON document and plots."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import ComparisonPlan, MethodComparison, Spread, compare
from spec_decode_ros.lab.bench.document import document
from spec_decode_ros.lab.bench.plan_suite import plan_prompts
from spec_decode_ros.lab.bench.sample_frames import sample_frames
from spec_decode_ros.lab.bench.suite import NamedLink, over_links
from spec_decode_ros.lab.bench.tables import print_comparison
from spec_decode_ros.lab.bench.text_suite import TOKENS_PER_S, SuitePrompts, decode_texts, text_prompts
from spec_decode_ros.lab.plan_judge import HELD_OUT_PLANS
from spec_decode_ros.lab.text_table import TextTable
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.transport.client import Client

_ALWAYS_SHOWN = ("cloud_passes", "acceptance_rate", "accepted_length", "round_trips")
SHOWN_OF_TEXTS = {
    "text": ("ttva_ms", TOKENS_PER_S, *_ALWAYS_SHOWN),
    "plan": ("ttva_ms", "ttft_ms", "tpot_ms", *_ALWAYS_SHOWN),
}
"""Metrics on the terminal of the suites of text."""

_FILES = ("--json", "--plot", "--timeline")


@dataclass(frozen=True)
class BenchPlan:
    """What is measured: a suite with a number of frames, prompts or sentences, over one link after the other.

    Without `methods` all are compared that verify and have the sampler. `device` and `max_tokens` are by default what the
    pair says. `peers` is transformers' own decoding, with the suites of text; `command` is what was typed. The suite `plan`
    takes its sentences from the file `sentences`, those whose plans have `min_tokens` or more.
    """

    suite: str
    frames: int
    pair: str
    links: Sequence[NamedLink]
    methods: Sequence[str] = ()
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    device: str | None = None
    max_tokens: int | None = None
    peers: bool = False
    command: str = ""
    sentences: str | Path = HELD_OUT_PLANS
    min_tokens: int = 1

    @property
    def compared(self) -> list[str]:
        """Names of the methods that are compared."""
        if self.methods:
            return list(self.methods)
        verified = [method for method in METHODS.values() if method.uses_cloud]
        alone = self.sampling.separate
        return [method.name for method in verified if not (alone and method.drafts_in_cloud_alone)]


@dataclass(frozen=True)
class BenchRun:
    """The comparison over each link, and the document for JSON."""

    results: Sequence[tuple[NamedLink, MethodComparison]]
    document: dict[str, Any]

    @property
    def same_tokens(self) -> bool:
        """Whether every method gave the same tokens over every link."""
        return all(comparison.same_tokens for _, comparison in self.results)

    def draw(self, plot: str | None, timeline: str | None, pair: str) -> None:
        """Draw the plots whose paths are given."""
        if plot:
            from spec_decode_ros.lab.bench.comparison_plot import draw_methods

            draw_methods(self.document, plot)
        if timeline:
            from spec_decode_ros.lab.bench.comparison_plot import draw_timeline

            link, comparison = self.results[-1]
            draw_timeline(comparison, Path(timeline), f"{link.name}, pair {pair}")


def run_suite(plan: BenchPlan, console: Console) -> BenchRun:
    """Measure and print, link by link. Raises SpecDecodeError."""
    report = partial(print_comparison, console, separate=plan.sampling.separate)
    more: dict[str, Any] = {}
    if plan.suite in SHOWN_OF_TEXTS:
        longest = plan.max_tokens or load_pair_config(plan.pair).max_tokens
        compared = ComparisonPlan(plan.compared, max_tokens=longest, sampling=plan.sampling)
        prompts = _prompts(plan)
        report = partial(report, shown=SHOWN_OF_TEXTS[plan.suite])
        decode = decode_texts(prompts, compared, plan.pair)
        results = over_links(plan.pair, plan.links, decode, report, device=plan.device)
        if plan.peers:
            more = {"peers": _measure_peers(plan, prompts, longest, results[0][1], console)}
    else:
        results = over_links(plan.pair, plan.links, _compare_actions(plan), report, device=plan.device)
    sampler = {"temperature": plan.sampling.temperature, "sampler": plan.sampling.sampler.value}
    return BenchRun(results, document(plan.suite, plan.pair, plan.command, results, **sampler, **more))


def _prompts(plan: BenchPlan) -> SuitePrompts:
    if plan.suite == "text":
        return text_prompts(plan.frames, plan.seed)
    config = load_pair_config(plan.pair)
    return plan_prompts(plan.sentences, config, plan.frames, plan.min_tokens, plan.seed)


def _compare_actions(plan: BenchPlan) -> Any:
    config = load_pair_config(plan.pair)
    samples = sample_frames(plan.frames, plan.seed)

    def decode(drafter: Drafter, client: Client) -> MethodComparison:
        compared = ComparisonPlan(plan.compared, config.prompt, config.max_tokens, sampling=plan.sampling)
        return compare(samples, drafter, client, compared)

    return decode


def _measure_peers(
    plan: BenchPlan, prompts: SuitePrompts, max_tokens: int, comparison: MethodComparison, console: Console
) -> dict[str, Any]:
    """transformers' own decoding of the same prompts. Raises SpecDecodeError where it gives other tokens."""
    from spec_decode_ros.lab.bench.text_suite import measure_peers, require_same

    if plan.sampling.temperature:
        raise SpecDecodeError("--peers compares greedy answers: leave --temperature out")
    ours = next(iter(comparison.results))
    peers = measure_peers(prompts, max_tokens, plan.pair)
    require_same(peers, [result.tokens for result in comparison.results[ours]], ours)
    speeds = {name: Spread.of([answer.tokens_per_s for answer in found]) for name, found in peers.items()}
    rows = [
        [name, f"{speed.median:.1f}", f"{speed.low:.1f}–{speed.high:.1f}"] for name, speed in speeds.items()
    ]
    title = "transformers in one process, the same tokens: tokens a second"
    TextTable(["", "median", "quartiles"], rows, title).print(console)
    return {name: {TOKENS_PER_S: speed.as_dict()} for name, speed in speeds.items()}


def command_typed(arguments: Sequence[str]) -> str:
    """The command line that was typed, without the files that it wrote."""
    words = iter(arguments)
    kept = []
    for word in words:
        option, given, _ = word.partition("=")
        if option not in _FILES:
            kept.append(word)
        elif not given:
            next(words, None)
    return shlex.join(["spec-decode", *kept])
