"""One answer to one instruction about one frame, or to any prompt, as `spec-decode generate` gives it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spec_decode_ros.actions.action import ActionError, format_action, parse_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.outcome import ActionResult, answer_without_model
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.desk_stack import DeskStackOptions, desk_stack
from spec_decode_ros.pictures import to_jpeg
from spec_decode_ros.printable import printable
from spec_decode_ros.robots.reflex import answer_by_reflex

_SHOWN = ("ttfa_ms", "ttft_ms", "ttva_ms", "acceptance_rate", "round_trips", "cloud_passes", "cloud_busy_ms")


@dataclass(frozen=True)
class SingleQuestion:
    """What is asked.

    Attributes:
        instruction: what the robot is told; None where there is a `prompt` instead.
        prompt: any text.
        images: picture files.
        last_action: text of the last verified action.
        sampling: how tokens are chosen.
    """

    instruction: str | None
    prompt: str | None
    images: tuple[str, ...]
    last_action: str | None
    sampling: Sampling


def answer(question: SingleQuestion, options: DeskStackOptions) -> dict[str, Any]:
    """Decode it, and return the result for JSON. Raises SpecDecodeError."""
    images = [read_jpeg(path) for path in question.images]
    if question.instruction is not None and not images:
        raise SpecDecodeError(
            "An instruction needs the frame that it is about: add --image FILE, or use --prompt."
        )
    with desk_stack(options) as (config, drafter, runtime):
        prompt, reflex = question.prompt, None
        if question.instruction is not None:
            style = cast(PromptStyle, config.prompt)
            reflex = answer_by_reflex(question.instruction, style)
            prompt = build_prompt(question.instruction, question.last_action, style)
        last = question.last_action
        # With the end token, as a model would have written them.
        tokens = [*drafter.encode(last), min(drafter.eos_ids)] if last else []
        if reflex is None:
            result = runtime.act(prompt or "", images, tokens, sampling=question.sampling)
        else:
            result = answer_without_model(format_action(reflex))
    return {
        **_plain(result),
        "pair": config.name,
        "method": options.method,
        "prompt": prompt,
        **(_action(result.text) if question.instruction is not None else {}),
    }


def read_jpeg(path: str | Path) -> bytes:
    """The file's picture, upright and of a bounded size; the same bytes where it is such a JPEG already.

    Raises:
        SpecDecodeError: it can't be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SpecDecodeError(f"The image {path} can't be read: {error.strerror or error}.") from error
    return to_jpeg(data, quality=95, name=f"The image {path}")


def _plain(result: ActionResult) -> dict[str, Any]:
    return {
        "tokens": list(result.tokens),
        "text": result.text,
        "action": None,
        "verified": result.verified,
        "stats": result.stats,
        "outcomes": list(result.outcomes),
        "timeline": [list(span) for span in result.timeline],
    }


def _action(text: str) -> dict[str, Any]:
    try:
        action = parse_action(text)
    except ActionError as error:
        return {"action_error": str(error)}
    return {"action": {"vx": action.vx, "wz": action.wz, "note": action.note, "posture": action.posture}}


def print_answer(document: dict[str, Any]) -> None:
    """The text, whether it is verified, and the numbers."""
    print(printable(document["text"], "\n\t"))
    if "action_error" in document:
        print(f"no action: {document['action_error']}", file=sys.stderr)
    if not document["tokens"]:
        print("answered at once, without a model")
        return
    verdict = "verified by the target" if document["verified"] else "the draft alone, unverified"
    print(f"{len(document['tokens'])} tokens, {verdict}, method {document['method']}")
    print("  ".join(numbers(document["stats"])))


def numbers(stats: dict[str, Any]) -> Iterator[str]:
    """The most telling numbers of an action, those that apply."""
    for name in _SHOWN:
        value = stats[name]
        if value is not None:
            yield f"{name} {value:.2f}" if name == "acceptance_rate" else f"{name} {value:.0f}"
