"""Plans the operator's sentences and hands their steps to the acting pair, one after the other. No ROS.

A thread of its own plans, so that a stop never waits for a model. Every new sentence replaces the plan, and the robot stands
while it is planned. A plan that the cloud has not verified waits for the operator's yes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.plan import STOP
from spec_decode_ros.edge.plan_execution import PlanExecution
from spec_decode_ros.edge.planner import Planned, Planner, problem_of
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.robots.reflex import is_stop

YES = frozenset("yes|yes please|ok|okay|do it|go ahead|yep|sure|confirm".split("|"))
NO = frozenset("no|no thanks|nope|cancel|never mind".split("|"))


@dataclass(frozen=True)
class PlanStatus:
    """What the operator is shown of the plan.

    Attributes:
        sentence: what was said.
        summary: how far it is, or why it ended.
        steps: of the plan, each with its state.
        verified: whether the target has confirmed the plan; None while there is none.
        ended_badly: whether the operator has to do something.
    """

    sentence: str = ""
    summary: str = "waiting for a command"
    steps: tuple[tuple[str, str], ...] = ()
    verified: bool | None = None
    ended_badly: bool = False


class PlanOutput(Protocol):
    """Where the loop's results go; called from several threads, one at a time."""

    def send_step(self, text: str) -> None:
        """The plain command for the acting pair."""

    def send_status(self, status: PlanStatus) -> None:
        """How far the plan is."""

    def send_progress(self, sentence: str, committed: str, text: str) -> None:
        """The text of a plan so far, and the part of it that the target has committed."""

    def send_planned(self, planned: Planned) -> None:
        """A plan is decoded."""


class PlanLoop:
    """Takes sentences and the acting pair's actions from any thread, from :meth:`start` to :meth:`close`.

    Args:
        planner: decodes.
        cancel: ends the decoding under way.
        goals: of the acting pair, see :func:`~spec_decode_ros.edge.planner.problem_of`.
        trusts_draft: whether a plan that the cloud has not verified runs without the operator's yes.
        output: where the results go.
        clock: seconds, steady.
    """

    def __init__(
        self,
        planner: Planner,
        cancel: Callable[[], None],
        goals: str,
        trusts_draft: bool,
        output: PlanOutput,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._planner, self._cancel, self._goals = planner, cancel, goals
        self._trusts_draft, self._output, self._clock = trusts_draft, output, clock
        self.status = PlanStatus()
        self._sentence: str | None = None
        self._count = 0
        self._planned: Planned | None = None
        self._execution: PlanExecution | None = None
        self._unconfirmed: PlanExecution | None = None
        self._sits = False
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._plan_forever, name="planning", daemon=True)

    def start(self) -> None:
        """Begin to plan."""
        self._thread.start()

    def close(self) -> None:
        """End the decoding under way and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._cancel()
        self._thread.join(5.0)

    # -- from other threads ---------------------------------------------------------------------------------

    def take_command(self, text: str) -> None:
        """The operator has said something."""
        word = text.strip().lower().strip(".!")
        with self._changed:
            unconfirmed, self._unconfirmed = self._unconfirmed, None
            if unconfirmed is not None and word in YES:
                self._run(unconfirmed)
                return
            self._count += 1
            self._sentence = None
            if self._execution is not None:
                self._execution.stop()
                self._show()
            # Whatever was wanted before, the robot stands until the new plan is there.
            self._output.send_step(STOP.text)
            if is_stop(text) or (unconfirmed is not None and word in NO):
                self._execution = self._planned = None
                self._tell(PlanStatus(text, "stopped"))
            else:
                self._sentence = text
                self._execution = None
                self._tell(PlanStatus(text, "planning"))
                self._changed.notify()
        self._cancel()

    def take_action(self, instruction: str, action: Action) -> None:
        """The acting pair has decided on a frame."""
        self._advance(lambda execution: execution.decided(instruction, action, self._clock()))

    def tick(self) -> None:
        """Time has passed; to be called some times a second."""
        self._advance(lambda execution: execution.passed(self._clock()))

    def _advance(self, event: Callable[[PlanExecution], bool]) -> None:
        with self._changed:
            execution = self._execution
            if execution is None:
                return
            ended = event(execution)
            self._sits = execution.sits
            if not ended:
                return
            if execution.step is not None:
                self._output.send_step(execution.step.text)
            self._show()

    # -- the planning thread --------------------------------------------------------------------------------

    def _plan_forever(self) -> None:
        while True:
            with self._changed:
                while self._sentence is None and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                sentence, count = self._sentence, self._count
                self._sentence = None
            assert sentence is not None
            try:
                planned = self._planner.plan(sentence, partial(self._output.send_progress, sentence))
            except SpecDecodeError as error:
                self._fail(sentence, count, str(error))
            except (
                Exception
            ) as error:  # without this thread nobody would plan any more, and nobody would say so
                self._fail(sentence, count, f"planning failed: {type(error).__name__}: {error}")
            else:
                self._take_plan(planned, count)

    def _fail(self, sentence: str, count: int, problem: str) -> None:
        with self._changed:
            if count == self._count and not self._closing:
                self._tell(PlanStatus(sentence, problem, ended_badly=True))

    def _take_plan(self, planned: Planned, count: int) -> None:
        with self._changed:
            if count != self._count or self._closing:
                return
            self._planned = planned
            self._output.send_planned(planned)
            plan, verified = planned.plan, planned.result.verified
            if plan is None or not plan.steps:
                why = planned.problem if plan is None else plan.text
                self._tell(PlanStatus(planned.sentence, why, verified=verified, ended_badly=True))
                return
            execution = PlanExecution(plan, self._sits)
            if problem := problem_of(plan, self._goals):
                self._tell(
                    PlanStatus(planned.sentence, problem, _steps(execution, "waiting"), verified, True)
                )
            elif verified or self._trusts_draft:
                self._run(execution)
            else:
                self._unconfirmed = execution
                ask = "the cloud is gone and the draft model alone made this plan: say yes to run it"
                self._tell(PlanStatus(planned.sentence, ask, _steps(execution, "waiting"), False, True))

    def _run(self, execution: PlanExecution) -> None:
        self._execution = execution
        assert execution.step is not None
        self._output.send_step(execution.step.text)
        self._show()

    def _show(self) -> None:
        execution, planned = self._execution, self._planned
        if execution is None or planned is None:
            return
        done, failure = execution.states.count("done"), execution.failure
        if failure:
            step = execution.steps[execution.states.index(failure)]  # type: ignore[arg-type]
            summary = f"{step.text}: {failure}"
        elif execution.step is None:
            summary = "done"
        else:
            summary = f"step {done + 1} of {len(execution.states)}: {execution.step.text}"
        self._tell(
            PlanStatus(planned.sentence, summary, _steps(execution), planned.result.verified, bool(failure))
        )

    def _tell(self, status: PlanStatus) -> None:
        self.status = status
        self._output.send_status(status)


def _steps(execution: PlanExecution, state: str = "") -> tuple[tuple[str, str], ...]:
    pairs = zip(execution.steps, execution.states, strict=True)
    return tuple((step.text, state or own) for step, own in pairs)
