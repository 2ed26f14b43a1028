"""The demo: a mission with the whole system, then two methods side by side on its frames, pictures and a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.bench.comparison import ComparisonPlan, MethodComparison, Sample, compare
from spec_decode_ros.lab.bench.comparison_plot import draw_timeline
from spec_decode_ros.lab.demo import report
from spec_decode_ros.lab.demo.animation import draw_animation
from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.mission import Goal, MissionRun, Story, Verified, run_mission
from spec_decode_ros.lab.demo.plan_goal import PlanGoal
from spec_decode_ros.lab.demo.stack import (
    COMMANDS,
    STEPS,
    free_domain,
    running_stack,
    start_drafter,
    start_planner,
    stay_on_this_machine,
)
from spec_decode_ros.lab.demo.verifiers import linked_verifiers
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.warmup import be_responsive
from spec_decode_ros.sim.task import make_task
from spec_decode_ros.transport.client import Client

Decode = Callable[[Sequence[int]], str]

RESULTS = (
    "summary.json",
    "walk.gif",
    "frame.png",
    "scene.png",
    "path.png",
    "timeline.png",
    "demo.mcap",
    "metadata.yaml",
)
_READY_S = 120.0
_COMPARISON_S = 25.0


@dataclass(frozen=True)
class DemoPlan:
    """What the demo does: a mission to `target` in the room of a seed, then a comparison on `frames` of its frames.

    An empty `instruction` is "go to the target"; after `time_out_s` the mission has failed. With a `planner`, a pair of
    language models, it is a free sentence of two steps: to go to the target, and to lie down there.
    """

    out: Path
    pair: str = "tiny"
    method: str = "auto"
    target: str = "red chair"
    instruction: str = ""
    seed: int = 1
    rtt_ms: float = 60.0
    time_out_s: float = 60.0
    frames: int = 24
    planner: str = ""

    def goal(self) -> Goal:
        """What is told and when it is done. Raises SpecDecodeError."""
        scene = make_task(self.seed).scene
        if not self.planner:
            instruction = self.instruction or f"go to the {self.target}"
            return MissionGoal(scene, self.target, instruction, time_out_s=self.time_out_s)
        sentence = (
            self.instruction or f"could you head over to that {self._spoken()}, and then lie down for a bit?"
        )
        expected = None if self.instruction else parse_plan(f"go to the {self.target}; sit down")
        return PlanGoal(scene, sentence, expected, self.time_out_s, self.target)

    def _spoken(self) -> str:
        """The target in other words than the models' own, where there are any."""
        color, _, kind = self.target.partition(" ")
        spoken = {"red": "crimson", "purple": "violet", "chair": "seat", "ball": "sphere", "box": "crate"}
        return f"{spoken.get(color, color)} {spoken.get(kind, kind)}".strip()


def run_demo(plan: DemoPlan, console: Console) -> dict[str, Any]:
    """Run it, write its files, and return the summary. Raises SpecDecodeError."""
    pair = load_pair_config(plan.pair).name
    if not method_named(plan.method).uses_cloud:
        raise SpecDecodeError(f"the demo verifies every action: choose another method than {plan.method}")
    if plan.planner:
        load_pair_config(plan.planner)
    goal = plan.goal()
    for name in RESULTS:
        (plan.out / name).unlink(missing_ok=True)
    mission, comparison, decode = mission_and_comparison(plan, goal, console)
    settings: dict[str, Any] = {"method": plan.method, "pair": pair, "seed": plan.seed, "rtt_ms": plan.rtt_ms}
    settings["planner"] = plan.planner or None
    files = _draw(plan, pair, goal, mission, comparison, decode)
    document = report.summary(goal, mission.story, comparison, settings, mission.counts, files)
    write_json(str(plan.out / "summary.json"), document)
    report.print_summary(console, document, comparison)
    return document


def _draw(
    plan: DemoPlan,
    pair: str,
    goal: Goal,
    mission: MissionRun,
    comparison: MethodComparison | None,
    decode: Decode,
) -> dict[str, str]:
    """Draw the pictures, and return the paths of all files by kind."""
    out, story = plan.out, mission.story
    caption = f"method {plan.method}, RTT {plan.rtt_ms:g} ms, pair {pair}"
    outcome = f"{story.outcome.reason if story.outcome else 'not finished'}, {story.took_s:.1f} s"
    files = {"path": str(report.draw_walk(goal, story, out / "path.png", f"{outcome} · {caption}"))}
    if comparison is not None:
        files["walk"] = str(draw_animation(goal, story, comparison, decode, out / "walk.gif"))
        files["frame"] = str(report.draw_frame(goal, comparison, decode, out / "frame.png", caption))
        subtitle = (
            f"the same frame by both methods · “{goal.instruction}” · RTT {plan.rtt_ms:g} ms, pair {pair}"
        )
        files["timeline"] = str(draw_timeline(comparison, out / "timeline.png", subtitle))
        if scene := report.draw_scene(goal, comparison, out / "scene.png"):
            files["scene"] = str(scene)
    return files | {"bag": str(mission.bag), "summary": str(out / "summary.json")}


def mission_and_comparison(
    plan: DemoPlan, goal: Goal, console: Console
) -> tuple[MissionRun, MethodComparison | None, Decode]:
    """Run the mission, then the comparison on its frames, with one verifier for each pair behind a link."""
    stay_on_this_machine()
    domain = free_domain()
    plan.out.mkdir(parents=True, exist_ok=True)
    pairs = [plan.pair, plan.planner] if plan.planner else [plan.pair]
    with ExitStack() as stack:
        with running_stack(plan.out / "logs", domain) as nodes:
            console.print(
                f"Starting sim_node and motion_node, and {'two verifiers' if plan.planner else 'the verifier'} behind a "
                f"link with a round-trip time of {plan.rtt_ms:g} ms …"
            )
            nodes.start("sim_node", {"seed": plan.seed, "target": goal.target})
            nodes.start("motion_node", {})
            endpoint, *planning = stack.enter_context(linked_verifiers(pairs, plan.rtt_ms))
            start_drafter(nodes, plan.pair, plan.method, endpoint, STEPS if planning else COMMANDS)
            if planning:
                start_planner(nodes, plan.planner, plan.pair, plan.method, planning[0])
            console.print(f"Telling the robot: “{goal.instruction}” …")
            mission = run_mission(goal, plan.out, domain, check=nodes.check, ready_timeout_s=_READY_S)
        comparison, decode = _compare(plan, mission.story, endpoint, console)
    return mission, comparison, decode


def _compare(
    plan: DemoPlan, story: Story, endpoint: str, console: Console
) -> tuple[MethodComparison | None, Decode]:
    """Compare the mission's method with the cloud alone, on frames of the mission."""
    pair = load_pair_config(plan.pair)
    drafter = load_drafter(pair, threads=1)
    be_responsive()
    samples = samples_of(story, plan.frames)
    if not samples:
        return None, drafter.decode
    methods = ("cloud", "auto" if plan.method == "cloud" else plan.method)
    console.print(f"Comparing {' and '.join(methods)} on {len(samples)} frames of the mission …")
    end = time.monotonic() + _COMPARISON_S
    with Client(endpoint, pair.name, drafter.vocabulary, grammar=drafter.grammar) as client:
        client.wait_ready()
        compared = ComparisonPlan(methods, pair.prompt, pair.max_tokens)
        comparison = compare(samples, drafter, client, compared, enough=lambda: time.monotonic() > end)
    return comparison, drafter.decode


def samples_of(story: Story, count: int) -> list[Sample]:
    """Up to `count` samples of a mission, evenly spread, each with what the acting pair was told then."""
    moments = []
    before: Verified | None = None
    for action in story.verified:
        frame = story.frame_of(action.stamp)
        if frame is not None:
            same = before is not None and before.instruction == action.instruction
            moments.append(
                Sample(frame, action.instruction, before.text if before and same else None, action.pose)
            )
        before = action
    if len(moments) <= count:
        return moments
    return [moments[round(place * (len(moments) - 1) / (count - 1))] for place in range(count)]
