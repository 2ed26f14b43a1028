"""Plans every sentence of a file and judges the plans, as `spec-decode plan --sentences` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console

from spec_decode_ros.actions.prompt import PromptStyle
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.planner import Planner
from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.bench.tables import spread_text
from spec_decode_ros.lab.desk_stack import DeskStackOptions, desk_stack
from spec_decode_ros.lab.plan_judge import ExpectedPlan, judge
from spec_decode_ros.lab.progress import tracked
from spec_decode_ros.lab.text_table import TextTable

_SHOWN = ("ttva_ms", "ttft_ms", "acceptance_rate", "accepted_length", "cloud_passes")


def evaluate_plans(
    expected: Sequence[ExpectedPlan], sampling: Sampling, options: DeskStackOptions
) -> dict[str, Any]:
    """Plan the sentences one after the other, and return what came of them, for JSON. Raises SpecDecodeError."""
    with desk_stack(options) as (config, drafter, runtime):
        planner = Planner(runtime, drafter.eos_ids, style=cast(PromptStyle, config.prompt), sampling=sampling)
        planned = [planner.plan(wanted.sentence) for wanted in tracked(expected, "sentences")]
    results = {options.method: [found.result for found in planned]}
    return {
        "pair": config.name,
        "method": options.method,
        "rtt_ms": options.rtt_ms,
        **judge(expected, planned),
        "spread": MethodComparison((), results, METRICS).as_dict()[options.method],
    }


def print_evaluation(document: Mapping[str, Any], console: Console) -> None:
    """The wrong plans, the shares, and the numbers of the decoding."""
    for row in document["rows"]:
        if not row["right"]:
            console.print(f"wrong: {row['sentence']}", style="red")
            console.print(f"  expected {row['expected']!r}, not {row['text']!r}")
    kinds = {**document["by_kind"], "all": document}
    rows = [
        [kind, str(found["sentences"]), str(found["right"]), f"{found['right_share']:.0%}"]
        for kind, found in kinds.items()
    ]
    TextTable(["expected", "sentences", "right in every step", ""], rows).print(console)
    motion = document["must_not_move"]
    if motion["sentences"]:
        console.print(
            f"without motion: {motion['still']} of {motion['sentences']} sentences for which the robot must not move"
        )
    console.print(
        f"method {document['method']}, pair {document['pair']}, RTT {document['rtt_ms']:g} ms, medians (quartiles):"
    )
    console.print("  ".join(f"{name} {spread_text(name, document['spread'][name])}" for name in _SHOWN))
