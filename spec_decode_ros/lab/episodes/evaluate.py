"""Closed-loop episodes in simulation: the decoded actions drive the robot, and successes are counted."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from spec_decode_ros.actions.action import format_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.edge.outcome import answer_without_model
from spec_decode_ros.edge.planner import Planner
from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.lab.desk_stack import DeskStackOptions, desk_stack
from spec_decode_ros.lab.episodes.episode import EpisodeResult, Rules, run_episode
from spec_decode_ros.lab.episodes.planned import PlannedPolicy
from spec_decode_ros.lab.progress import progress_bar
from spec_decode_ros.lab.text_file import read_text
from spec_decode_ros.robots.reflex import answer_by_reflex
from spec_decode_ros.sim.task import Task, make_task, read_templates

MEASURED = "measured"
DEFAULT_LATENCY_MS = 100.0


@dataclass(frozen=True)
class EpisodePlan:
    """Which episodes are run.

    Attributes:
        seed: of the first episode; the next ones count on from it.
        instructions: file of phrasings, one a line; None for the project's own variety.
        planner: a pair of language models that plans each instruction first; None for the words as they are.
        latency_ms: simulated time from a frame to its action taking effect, or `MEASURED`, what each decision took;
            None for the default, `DEFAULT_LATENCY_MS` and the round-trip time.
    """

    episodes: int = 20
    seed: int = 0
    instructions: str | None = None
    planner: str | None = None
    latency_ms: float | str | None = None


def evaluate_pair(plan: EpisodePlan, options: DeskStackOptions) -> dict[str, Any]:
    """Run the episodes, and return what came of them, for JSON. Raises SpecDecodeError."""
    templates = read_templates(read_text(plan.instructions, "instructions")) if plan.instructions else ()
    latency_ms = DEFAULT_LATENCY_MS + options.rtt_ms if plan.latency_ms is None else plan.latency_ms
    rules = Rules() if isinstance(latency_ms, str) else Rules(latency_s=latency_ms / 1000.0)
    tasks = (make_task(plan.seed + i, templates) for i in range(plan.episodes))
    with contextlib.ExitStack() as context:
        stack = context.enter_context(desk_stack(options))
        policy = DecodingPolicy(stack.runtime, cast(PromptStyle, stack.config.prompt))
        planned: PlannedPolicy | None = None
        if plan.planner:
            planning = context.enter_context(desk_stack(replace(options, pair=plan.planner)))
            style = cast(PromptStyle, planning.config.prompt)
            planner = Planner(planning.runtime, planning.drafter.eos_ids, style=style)
            planned = PlannedPolicy(policy, planner, stack.config.goals)
        advance = context.enter_context(progress_bar("episodes", plan.episodes))
        reached = 0

        def show(result: EpisodeResult) -> None:
            nonlocal reached
            reached += result.success
            advance(f"{reached} reached")

        results = evaluate(
            tasks,
            planned or policy,
            rules,
            (lambda: policy.last_s) if latency_ms == MEASURED else None,
            show,
        )
    return {
        "pair": stack.config.name,
        "method": options.method,
        "seed": plan.seed,
        "rtt_ms": options.rtt_ms,
        "latency_ms": latency_ms,
        "plans": planned.plans if planned else {},
        **report(results, policy.stats, policy.unverified),
    }


class DecodingPolicy:
    """What the robot's software does with a frame: prompt, decode, remember the answer for the next prompt.

    Args:
        runtime: decodes.
        style: of the prompt, as the pair says.
    """

    def __init__(self, runtime: EdgeRuntime, style: PromptStyle) -> None:
        self._runtime = runtime
        self._style = style
        self._last_tokens: tuple[int, ...] = ()
        self.stats: list[dict[str, Any]] = []
        self.unverified = 0
        self.last_s = 0.0

    def __call__(self, jpeg: bytes, instruction: str, last_action: str | None) -> str:
        reflex = answer_by_reflex(instruction, self._style)
        if reflex is None:
            prompt = build_prompt(instruction, last_action, self._style)
            draft = self._last_tokens if last_action is not None else ()
            result = self._runtime.act(prompt, [jpeg], draft)
        else:
            result = answer_without_model(format_action(reflex))
        self._last_tokens = result.tokens
        self.stats.append(dict(result.stats))
        self.unverified += not (result.verified or result.without_model)
        total = result.stats["total_ms"]
        self.last_s = float(total or 0.0) / 1000.0
        return result.text


def evaluate(
    tasks: Iterable[Task],
    policy: Callable[[bytes, str, str | None], str],
    rules: Rules,
    latency: Callable[[], float] | None = None,
    show: Callable[[EpisodeResult], None] = lambda result: None,
) -> list[EpisodeResult]:
    """Run the tasks one after the other; `show` is told of each result at once."""
    results = []
    for task in tasks:
        results.append(run_episode(task, policy, rules, latency))
        show(results[-1])
    return results


def report(
    results: Sequence[EpisodeResult], stats: Sequence[dict[str, Any]] = (), unverified: int = 0
) -> dict[str, Any]:
    """The result of an evaluation as plain values, for JSON."""
    successes = sum(result.success for result in results)
    seen = {name: [s[name] for s in stats if s.get(name) is not None] for name in METRICS}
    return {
        "episodes": len(results),
        "successes": successes,
        "success_rate": successes / len(results) if results else 0.0,
        "reasons": dict(Counter(result.reason for result in results).most_common()),
        "decisions": sum(result.decisions for result in results),
        "unverified_actions": unverified,
        "median_time": _median([result.time for result in results if result.success]),
        "medians": {name: _median(values) for name, values in seen.items()},
        "spread": {name: _spread(values) for name, values in seen.items()},
        "rows": [result.as_row() for result in results],
    }


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _spread(values: Sequence[float]) -> list[float] | None:
    """Tenth and ninetieth percentile."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return [round(cuts[0], 4), round(cuts[-1], 4)]


def print_episodes(document: dict[str, Any]) -> None:
    """A table of the episodes, and the numbers of all of them."""
    from rich.table import Table
    from rich.text import Text

    from spec_decode_ros.console import PlainConsole

    console = PlainConsole()
    table = Table(box=None, padding=(0, 1))
    for name, justify in (("seed", "right"), ("instruction", "left"), ("target", "left"), ("result", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("seconds", justify="right")
    table.add_column("metres", justify="right")
    for row in document["rows"]:
        # As plain text: a user's phrasing may hold what looks like markup.
        table.add_row(
            str(row["seed"]),
            Text(row["instruction"]),
            row["target"],
            Text(row["reason"], style="green" if row["success"] else "red"),
            f"{row['time']:.1f}",
            f"{row['path_length']:.1f}",
        )
    console.print(table)
    wrong = {row["instruction"] for row in document["rows"] if not row["success"]}
    for sentence, planned in document.get("plans", {}).items():
        if sentence in wrong:
            console.print(Text(f"planned: {sentence} => {planned}", style="red"))
    console.print(
        f"success_rate {document['success_rate']:.2f} ({document['successes']} of {document['episodes']}), "
        f"method {document['method']}, pair {document['pair']}, RTT {document['rtt_ms']:g} ms"
    )
    medians = ((name, value) for name, value in document["medians"].items() if value is not None)
    console.print(
        "  ".join(f"{name} {value:.2f}" if value < 10 else f"{name} {value:.0f}" for name, value in medians)
    )
