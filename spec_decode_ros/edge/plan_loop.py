"""Plans the operator's sentences and hands their steps to the acting pair, one after the other. No ROS.

A thread of its own plans, so that a stop never waits for a model. Every new sentence replaces the plan, and the robot stands
while it is planned. A plan that the cloud has not verified waits for the operator's yes; a yes without one changes nothing.
"""

from __future__ import annotations

import re
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

YES = frozenset("yes|yes please|okay|do it|yes do it|go ahead|yep|sure|confirm".split("|"))
"""Not `ok`, which alone is a stop, see :func:`~spec_decode_ros.robots.reflex.is_stop`."""

NO = frozenset("no|no thanks|nope|cancel|never mind".split("|"))

_CLOSING_S = 5.0


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
        cancel: ends the decoding under way; must return at once.
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
        self._decoding: int | None = None  # the count of the sentence that is being decoded
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
        """Stop the robot; then end the decoding under way and the thread."""
        with self._changed:
            if not self._closing:
                self._give_up()
            self._closing = True
            self._changed.notify()
        end = time.monotonic() + _CLOSING_S
        while self._thread.is_alive() and time.monotonic() < end:
            self._cancel()  # again and again, because the decoding may have been about to begin
            self._thread.join(0.05)

    # -- from other threads ---------------------------------------------------------------------------------

    def take_command(self, text: str) -> None:
        """The operator has said something."""
        words = " ".join(re.findall("[a-z]+", text.lower()))
        with self._changed:
            if self._closing:
                return
            unconfirmed, self._unconfirmed = self._unconfirmed, None
            if words in YES:
                if unconfirmed is not None:
                    self._run(unconfirmed)
                return
            self._count += 1
            self._cancel_stale()
            # Whatever was wanted before, the robot stands until the new plan is there.
            self._give_up()
            self._execution = self._planned = None
            if is_stop(text) or (unconfirmed is not None and words in NO):
                self._sentence = None
                self._tell(PlanStatus(text, "stopped"))
            else:
                self._sentence = text
                self._tell(PlanStatus(text, "planning"))
                self._changed.notify()

    def take_action(self, instruction: str, action: Action, verified: bool = True) -> None:
        """The acting pair has decided on a frame."""
        self._advance(
            lambda execution: execution.decided(instruction, action, self._clock(), verified=verified)
        )

    def tick(self) -> None:
        """Time has passed; to be called some times a second."""
        with self._changed:
            self._cancel_stale()
        self._advance(lambda execution: execution.passed(self._clock()))

    def _cancel_stale(self) -> None:
        """End the decoding of an older sentence; again at every tick, because it may have been about to begin.

        The lock is held, so that it cannot be the newest one's.
        """
        if self._decoding is not None and self._decoding != self._count:
            self._cancel()

    def _advance(self, event: Callable[[PlanExecution], bool]) -> None:
        with self._changed:
            execution = self._execution
            before = execution.step if execution is not None else None
            if execution is None or before is None or self._closing:
                return
            ended = event(execution)
            self._sits = execution.sits
            if not ended:
                return
            step = execution.step
            if execution.failure or step == before:
                # After a failure the acting pair must not try on; and the same words again would be no news to it.
                self._output.send_step(STOP.text)
            if step is not None:
                self._output.send_step(step.text)
            self._show()

    # -- the planning thread --------------------------------------------------------------------------------

    def _plan_forever(self) -> None:
        while True:
            with self._changed:
                self._decoding = None
                while self._sentence is None and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                sentence, count = self._sentence, self._count
                self._sentence, self._decoding = None, count
            assert sentence is not None
            try:
                self._take_plan(self._planner.plan(sentence, partial(self._progress, sentence, count)), count)
            except SpecDecodeError as error:
                self._fail(sentence, count, str(error))
            except Exception as error:
                # Without this thread nobody would plan any more, and nobody would say so.
                self._fail(sentence, count, f"planning failed: {type(error).__name__}: {error}")

    def _progress(self, sentence: str, count: int, committed: str, text: str) -> None:
        with self._changed:
            if self._is_current(count):
                self._output.send_progress(sentence, committed, text)

    def _is_current(self, count: int) -> bool:
        return count == self._count and not self._closing

    def _fail(self, sentence: str, count: int, problem: str) -> None:
        with self._changed:
            if self._is_current(count):
                self._give_up()
                self._tell(PlanStatus(sentence, problem, ended_badly=True))

    def _take_plan(self, planned: Planned, count: int) -> None:
        with self._changed:
            if not self._is_current(count):
                return
            self._planned = planned
            self._output.send_planned(planned)
            plan, verified = planned.plan, planned.result.verified
            if plan is None or not plan.steps:
                why = planned.problem if plan is None else plan.text
                self._tell(PlanStatus(planned.sentence, why, verified=verified, ended_badly=True))
                return
            execution = PlanExecution(plan, self._sits)
            waiting = _steps(execution, "waiting")
            if problem := problem_of(plan, self._goals):
                self._tell(PlanStatus(planned.sentence, problem, waiting, verified, True))
            elif verified or self._trusts_draft or not plan.moves:
                self._run(execution)
            else:
                self._unconfirmed = execution
                ask = "the draft model alone made this plan, and the cloud has not verified it: say yes to run it"
                self._tell(PlanStatus(planned.sentence, ask, waiting, False, True))

    # -- with the lock held ---------------------------------------------------------------------------------

    def _run(self, execution: PlanExecution) -> None:
        self._execution = execution
        assert execution.step is not None
        self._output.send_step(execution.step.text)
        self._show()

    def _give_up(self) -> None:
        """Stop the robot, and the step that runs, if one does."""
        self._output.send_step(STOP.text)
        if self._execution is not None and self._execution.step is not None:
            self._execution.stop()
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
