"""The robot's planner: the operator's sentences in, plain steps for the drafter out, one after the other.

A pair of language models plans, with the same methods as the drafter's pair acts. The drafter listens to the topic ``step``
then, and not to ``command``. How far the plan is goes out on ``plan``, latched: a DiagnosticStatus with the sentence as its
name and the steps, each with its state, as its values. What is decided when is in :mod:`spec_decode_ros.edge.plan_loop`.
"""

from __future__ import annotations

from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import String

from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.edge.link_watch import SILENCE_S
from spec_decode_ros.edge.plan_loop import PlanLoop, PlanStatus
from spec_decode_ros.edge.planner import Planned, Planner
from spec_decode_ros.edge.stack import DECODING, EdgeStack
from spec_decode_ros.models.pair_config import DEFAULT_PAIR, load_pair_config
from spec_decode_ros.nodes.common import (
    EVENTS,
    HANDED_ON,
    LATCHED,
    OK,
    RECEIVED,
    WARN,
    Diagnostics,
    Health,
    Settings,
    run,
    steady_clock,
)
from spec_decode_ros.printable import printable
from spec_decode_ros.settings import Setting
from spec_decode_ros.viz.decoded_action import DecodedAction, DecodedActionError, pieces_of

PARAMETERS = (
    Setting(
        "pair", "planner", "pair of language models: a shipped name or the path of a pair file", fixed=True
    ),
    Setting("acting_pair", DEFAULT_PAIR, "the drafter's pair, for which the steps are", fixed=True),
    *DECODING,
    Setting(
        "endpoint",
        "tcp://127.0.0.1:5556",
        "where the planner's verifier listens, tcp://HOST:PORT; several by commas",
        fixed=True,
    ),
    Setting(
        "deadline", 10.0, "s without a whole plan until the cloud counts as gone", 0.5, 120.0, fixed=True
    ),
    Setting(
        "on_link_loss",
        "hold",
        "without the cloud: hold (the draft model's plan waits for the operator's yes), draft (it runs at once)",
        choices=("hold", "draft"),
        fixed=True,
    ),
)

_TICK_S = 0.1


class PlannerNode(Node):
    """Subscribes command/received and action/tokens; publishes step, plan and plan/tokens."""

    def __init__(self) -> None:
        super().__init__("planner_node")
        settings = Settings(self, PARAMETERS)
        goals = load_pair_config(settings["acting_pair"]).goals
        self._stack = stack = EdgeStack(settings)
        alone = stack.alone if stack.client is not None else None
        planner = Planner(stack.runtime, stack.eos_ids, alone, stack.style, stack.sampling)
        self._step = self.create_publisher(String, "step", HANDED_ON)
        self._plan = self.create_publisher(DiagnosticStatus, "plan", LATCHED)
        self._tokens = self.create_publisher(String, "plan/tokens", EVENTS)
        self._loop = loop = PlanLoop(planner, stack.cancel, goals, settings["on_link_loss"] == "draft", self)
        self.create_subscription(String, RECEIVED, lambda message: loop.take_command(message.data), HANDED_ON)
        self.create_subscription(String, "action/tokens", self._on_action, EVENTS)
        self.create_timer(_TICK_S, loop.tick, clock=steady_clock())
        self._diagnostics = Diagnostics(self, "planner", self._health)
        loop.start()
        self.send_status(loop.status)
        self.get_logger().info(f"ready: pair {stack.pair}, method {stack.method}")

    def _on_action(self, message: String) -> None:
        try:
            decoded = DecodedAction.from_json(message.data)
            if decoded.state != "draft":
                action = parse_action(decoded.text)
                self._loop.take_action(decoded.command, action, decoded.state == "verified")
        except (DecodedActionError, ActionError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=2.0)

    # -- what the loop sends --------------------------------------------------------------------------------

    def send_step(self, text: str) -> None:
        """Tell the drafter."""
        self.get_logger().info(f"step: {printable(text)}")
        self._step.publish(String(data=text))

    def send_status(self, status: PlanStatus) -> None:
        """Tell everybody how far the plan is."""
        verdict = {None: "", True: "verified", False: "unverified"}[status.verified]
        self._plan.publish(
            DiagnosticStatus(
                level=WARN if status.ended_badly else OK,
                name=status.sentence,
                message=status.summary,
                hardware_id=verdict,
                values=[KeyValue(key=step, value=state) for step, state in status.steps],
            )
        )

    def send_progress(self, sentence: str, committed: str, text: str) -> None:
        """Tell the terminal how far the plan is decoded."""
        if self._tokens.get_subscription_count():
            decoded = DecodedAction.in_progress(sentence, committed, text)
            self._tokens.publish(String(data=decoded.to_json()))

    def send_planned(self, planned: Planned) -> None:
        """Tell the terminal the whole plan, with the outcome of each token."""
        result = planned.result
        pieces = pieces_of(self._stack.decode, result.tokens, result.outcomes)
        state = "verified" if result.verified else "unverified"
        target = str(result.stats["target_fingerprint"] or "")
        self._tokens.publish(
            String(data=DecodedAction(planned.sentence, pieces, state, planned.problem, target).to_json())
        )
        took = result.stats["total_ms"]
        self.get_logger().info(f"plan: {printable(result.text)} ({state}, {took:.0f} ms)")

    def _health(self) -> Health:
        client, status = self._stack.client, self._loop.status
        values: dict[str, object] = {
            "pair": self._stack.pair,
            "method": self._stack.method,
            "sentence": status.sentence,
        }
        if client is not None:
            connected = client.ready and client.silence_s < SILENCE_S
            values |= {"endpoint": client.endpoint, "connected": connected}
            values["target_fingerprint"] = client.welcome.target_fingerprint if client.welcome else ""
            values["rtt_ms"] = "" if client.rtt_ms is None else client.rtt_ms
            if not connected:
                gone = client.refusal or f"the planner's verifier at {client.endpoint} does not answer"
                return Health(WARN, gone, values)
        if not self._step.get_subscription_count():
            return Health(WARN, f"nobody listens to {self._step.topic_name}: is the drafter running?", values)
        return Health(WARN if status.ended_badly else OK, status.summary, values)

    def close(self) -> None:
        """End the planning thread, the runtimes and the connection."""
        self._loop.close()
        self._stack.close()


main = partial(run, PlannerNode)
"""Entry point of the ``planner_node`` executable."""


if __name__ == "__main__":
    main()
