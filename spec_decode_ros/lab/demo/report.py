"""The report of a demo: a summary as JSON, a table for the terminal, and three pictures."""

from __future__ import annotations

import io
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spec_decode_ros import __version__
from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.json_output import writing
from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread, speedup
from spec_decode_ros.lab.bench.tables import spread_text
from spec_decode_ros.lab.one_plan import print_tokens
from spec_decode_ros.lab.text_table import TextTable
from spec_decode_ros.viz.decoded_action import pieces_of
from spec_decode_ros.viz.overlay import Overlay

if TYPE_CHECKING:
    from rich.console import Console

    from spec_decode_ros.edge.runtime import ActionResult
    from spec_decode_ros.lab.demo.mission import Goal, Story

_SETTLE_S = 0.4

_LABELS = {
    "ttva_ms": "frame to verified action, ms",
    "ttfa_ms": "frame to first action, ms",
    "ttft_ms": "frame to first final token, ms",
    "tpot_ms": "time per further token, ms",
    "acceptance_rate": "accepted / drafted",
    "accepted_length": "tokens per target pass",
    "round_trips": "round trips",
    "uplink_bytes": "bytes up, image apart",
    "downlink_bytes": "bytes down",
    "cloud_passes": "target passes",
    "cloud_busy_ms": "target compute, ms",
    "capacity": "robots per server",
}


def summary(
    goal: Goal,
    story: Story,
    comparison: MethodComparison | None,
    settings: Mapping[str, Any],
    recorded: Mapping[str, int],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """The content of summary.json, with the demo's settings, messages in the bag by topic, and paths of files by kind."""
    outcome = story.outcome
    waits = [action.took_ms for action in story.verified]
    document: dict[str, Any] = {
        "success": succeeded(story),
        "reason": _reason(story),
        "instruction": goal.instruction,
        "target": goal.target,
        **settings,
        "seconds": round(story.took_s, 2),
        "distance_m": None if outcome is None or outcome.distance_m is None else round(outcome.distance_m, 3),
        "plan": _plan_of(story),
        "collisions": story.collisions,
        "verified_actions": len(story.verified),
        "corrected_actions": sum(action.corrected for action in story.verified),
        "mission_ttva_ms": Spread.of(waits).as_dict() if waits else None,
        "methods": comparison.as_dict() if comparison else {},
        "recorded": dict(sorted(recorded.items())),
        "files": dict(files),
        "versions": {"spec_decode_ros": __version__, "python": platform.python_version()},
    }
    if comparison:
        document["compared_frames"] = len(comparison.samples)
        document["identical_answers"] = comparison.agreement(*comparison.results)
        document["times_better"] = dict(speedup(comparison, *comparison.results))
    return document


def succeeded(story: Story) -> bool:
    """Whether the target was reached, and nothing touched on the way."""
    return story.outcome is not None and story.outcome.success and not story.collisions


def _plan_of(story: Story) -> dict[str, Any] | None:
    """The decoded plan, and what became of its steps; None without a planner."""
    if story.plan is None:
        return None
    return {
        "text": story.plan.text,
        "verified": story.plan.state == "verified",
        "pieces": [[piece.text, piece.outcome] for piece in story.plan.pieces],
        "steps": [step.as_row() for step in story.outcome.steps] if story.outcome else [],
    }


def _reason(story: Story) -> str:
    if story.outcome is None:
        return "not finished"
    touched = ", but touched something on the way" if story.collisions else ""
    return story.outcome.reason + touched


def print_summary(console: Console, document: dict[str, Any], comparison: MethodComparison | None) -> None:
    """Print the mission in a few lines, and the methods as a table."""
    from rich.text import Text

    verdict = Text("SUCCESS ", "bold green") if document["success"] else Text("FAILED ", "bold red")
    console.print(
        verdict + Text(f"“{document['instruction']}”: {document['reason']}, {document['seconds']:.1f} s")
    )
    if plan := document["plan"]:
        _print_plan(console, plan)
    console.print(
        f"{document['verified_actions']} verified actions, {document['corrected_actions']} of them with velocities "
        f"corrected by the cloud; method {document['method']}, RTT {document['rtt_ms']:g} ms, pair {document['pair']}"
    )
    if comparison:
        methods = list(comparison.results)
        title = f"{' and '.join(methods)} on the same {document['compared_frames']} frames, alternating: median (quartiles)"
        rows = [
            [label, *(spread_text(metric, document["methods"][method][metric]) for method in methods)]
            for metric, label in _LABELS.items()
        ]
        TextTable(["per action", *methods], rows, title).print(console)
        console.print(
            f"The same tokens from both methods on {document['identical_answers']} of "
            f"{document['compared_frames']} frames."
        )
    for name, path in document["files"].items():
        console.print(f"{name:9} {path}", soft_wrap=True)


def _print_plan(console: Console, plan: dict[str, Any]) -> None:
    from rich.text import Text

    for number, step in enumerate(plan["steps"], 1):
        outcome = Text(step["reason"], "green" if step["success"] else "red")
        console.print(Text(f"  {number}. {step['step']}: ") + outcome + Text(f", {step['seconds']:.1f} s"))
    print_tokens(plan["pieces"], console)


def shown_instruction(goal: Goal, instruction: str) -> str:
    """What a picture says that the robot is told: the operator's words, and the step that runs."""
    return goal.instruction if instruction == goal.instruction else f"{goal.instruction} » {instruction}"


def draw_walk(goal: Goal, story: Story, out: Path, caption: str) -> Path:
    """Draw the robot's path as a bird's-eye view."""
    from spec_decode_ros.viz.birdseye import VerifiedAction, draw_path

    said = f"“{goal.instruction}”"
    return draw_path(
        goal.scene,
        np.array([place[1:] for place in story.path]),
        out,
        target=goal.target,
        decisions=[VerifiedAction(a.pose[0], a.pose[1], a.corrected) for a in story.verified],
        title=story.plan.text if story.plan else said,
        subtitle=f"{said}\n{caption}" if story.plan else caption,
    )


def draw_frame(
    goal: Goal,
    comparison: MethodComparison,
    decode: Callable[[Sequence[int]], str],
    out: Path,
    caption: str,
) -> Path:
    """Draw a camera frame with the action that was decided on it."""
    from PIL import Image

    from spec_decode_ros.viz.legend import with_legend
    from spec_decode_ros.viz.overlay import draw_overlay

    method = list(comparison.results)[-1]
    place = most_telling(comparison.results[method], goal.target)
    sample = comparison.samples[place]
    said = shown_instruction(goal, sample.instruction)
    overlay = overlay_of(said, comparison.results[method][place], decode, caption)
    jpeg = draw_overlay(sample.jpeg, overlay, width=960, quality=95)
    with writing(out), Image.open(io.BytesIO(jpeg)) as picture:
        with_legend(picture.convert("RGB")).save(out)
    return out


def draw_scene(goal: Goal, comparison: MethodComparison, out: Path) -> Path | None:
    """Draw the robot from outside at the time of that frame; None where there is no OpenGL."""
    from PIL import Image

    from spec_decode_ros.errors import SpecDecodeError
    from spec_decode_ros.lab.episodes.pictures import picture
    from spec_decode_ros.sim.go2 import Pose
    from spec_decode_ros.sim.simulation import Simulation

    pose = comparison.samples[most_telling(list(comparison.results.values())[-1], goal.target)].pose
    if pose is None:
        return None
    try:
        with Simulation(goal.scene, visual=True) as simulation:
            simulation.robot.reset(Pose(*pose), 0)
            simulation.step(_SETTLE_S)
            Image.fromarray(picture(simulation)).save(out)
    except SpecDecodeError:
        return None
    return out


def most_telling(results: Sequence[ActionResult], target: str) -> int:
    """Index of the action to show: one that names the target, moves, and has tokens of several outcomes."""

    def score(result: ActionResult) -> tuple[bool, bool, int, int]:
        outcomes = set(result.outcomes)
        names_target = target in result.text and not result.text.endswith("reached")
        walking = not result.text.startswith("vx 0.0")
        return names_target, walking, len(outcomes), sum(outcome == "accepted" for outcome in result.outcomes)

    return max(
        range(len(results)), key=lambda index: (score(results[index]), -abs(index - len(results) // 2))
    )


def overlay_of(
    instruction: str, result: ActionResult, decode: Callable[[Sequence[int]], str], status: str
) -> Overlay:
    """What is drawn on the frame of an action."""
    try:
        action = parse_action(result.text)
        vx, wz = action.vx, action.wz
    except ActionError:
        vx = wz = 0.0
    pieces = pieces_of(decode, result.tokens, result.outcomes)
    return Overlay(instruction, pieces, vx, wz, result.verified, status)
