"""The plan of one sentence, as `spec-decode plan` gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from spec_decode_ros.actions.prompt import PromptStyle
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.planner import Planned, Planner
from spec_decode_ros.lab.desk_stack import DeskStackOptions, desk_stack
from spec_decode_ros.lab.one_action import numbers
from spec_decode_ros.viz.decoded_action import pieces_of
from spec_decode_ros.viz.style import OUTCOME_COLORS


def plan_sentence(sentence: str, sampling: Sampling, options: DeskStackOptions) -> dict[str, Any]:
    """Decode the plan, and return it for JSON. Raises SpecDecodeError."""
    with desk_stack(options) as (config, drafter, runtime):
        planner = Planner(runtime, drafter.eos_ids, style=cast(PromptStyle, config.prompt), sampling=sampling)
        planned = planner.plan(sentence)
        pieces = pieces_of(drafter.decode, planned.result.tokens, planned.result.outcomes)
    return {
        **document_of(planned),
        "pair": config.name,
        "method": options.method,
        "pieces": [[piece.text, piece.outcome] for piece in pieces],
    }


def document_of(planned: Planned) -> dict[str, Any]:
    """Sentence, steps and decoding as plain values."""
    plan, result = planned.plan, planned.result
    return {
        "sentence": planned.sentence,
        "steps": [step.text for step in plan.steps] if plan else [],
        "outcome": plan.outcome if plan else None,
        "reason": plan.reason if plan else "",
        "problem": planned.problem,
        "text": result.text,
        "tokens": list(result.tokens),
        "verified": result.verified,
        "stats": result.stats,
        "outcomes": list(result.outcomes),
    }


def print_plan(document: Mapping[str, Any], console: Console) -> None:
    """The steps, the tokens coloured by their outcome, and the numbers."""
    if document["problem"]:
        console.print(f"no plan: {document['problem']}", style="red")
    for number, step in enumerate(document["steps"], 1):
        console.print(f"{number}. {step}")
    if document["outcome"] and not document["steps"]:
        console.print(": ".join(part for part in (document["outcome"], document["reason"]) if part))
    print_tokens(document["pieces"], console)
    verdict = "verified by the target" if document["verified"] else "the draft alone, unverified"
    console.print(f"{len(document['tokens'])} tokens, {verdict}, method {document['method']}")
    console.print("  ".join(numbers(document["stats"])))


def print_tokens(pieces: Sequence[Sequence[str]], console: Console) -> None:
    """Tokens, each a text and its outcome, coloured by it, and what the colours mean."""
    tokens = Text("tokens: ")
    for piece, outcome in pieces:
        tokens.append(piece, style=OUTCOME_COLORS[outcome])
    seen = dict.fromkeys(outcome for _, outcome in pieces)
    legend = Text("  ").join(Text(outcome, style=OUTCOME_COLORS[outcome]) for outcome in seen)
    console.print(tokens, soft_wrap=True)
    console.print(Text("        ") + legend)
