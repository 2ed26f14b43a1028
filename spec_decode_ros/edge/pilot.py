"""From one camera frame to one decision, with the memory that goes from one to the next. No ROS in here.

The pilot builds the prompt, runs the decoding, and reports velocities as soon as they stand in the text:
first as the draft has them, then as the target has confirmed them, which is before the rest of the sentence
has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spec_decode_ros.actions.action import (
    NOT_UNDERSTOOD,
    Action,
    ActionError,
    format_action,
    parse_action,
    parse_velocity_prefix,
)
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.actions.quantities import KNOWN_QUANTITIES
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.action_counter import ActionCounter
from spec_decode_ros.edge.odometer import Travel
from spec_decode_ros.edge.outcome import answer_without_model
from spec_decode_ros.edge.runtime import ActionResult, Progress
from spec_decode_ros.robots.reflex import answer_by_reflex

OnVelocities = Callable[[float, float, bool], None]
"""Called with vx (m/s), wz (rad/s) and whether the target has confirmed them."""

OnText = Callable[[str, str], None]
"""Called with the part of the text that the target has said, and with all of the text so far."""


class Runtime(Protocol):
    """What the pilot needs of :class:`~spec_decode_ros.edge.runtime.EdgeRuntime`."""

    def act(
        self,
        prompt: str,
        images: Sequence[bytes] = ...,
        last_tokens: Sequence[int] = ...,
        *,
        sampling: Sampling | None = ...,
        on_event: Callable[[Progress], None] | None = ...,
        captured: float | None = ...,
    ) -> ActionResult: ...


@dataclass(frozen=True)
class Decision:
    """What came of one frame. ``action`` is None where the text is not one.

    ``problem`` says why, or why the robot does not do what the text or the operator asked for. ``last_action`` is the
    last action as the prompt had it, None where it had none.
    """

    result: ActionResult
    action: Action | None
    problem: str = ""
    last_action: str | None = None


@dataclass
class Pilot:
    """Decides frame by frame for one command at a time.

    Args:
        runtime: decodes. style: how the model pair is prompted. sampling: greedy if None. rest_after: after
        so many equal verified actions in a row that do not move, :attr:`resting` is true until
            the next command; 0 never rests.
    """

    runtime: Runtime
    style: PromptStyle = "trained"
    sampling: Sampling | None = None
    rest_after: int = 3
    command: str = ""
    _last_text: str | None = field(default=None, init=False)
    _last_tokens: tuple[int, ...] = field(default=(), init=False)
    _still: int = field(default=0, init=False)
    _counter: ActionCounter = field(default_factory=ActionCounter, init=False)

    def set_command(self, command: str) -> None:
        """Take a new command; what was said for the old one is forgotten. The same one again wakes a resting pilot."""
        if command != self.command:
            self._last_text, self._last_tokens = None, ()
            self._counter = ActionCounter()
        self.command = command
        self._still = 0

    @property
    def resting(self) -> bool:
        """Whether the command is carried out as far as can be told, so that asking again would be waste."""
        return 0 < self.rest_after <= self._still

    def decide(
        self,
        frame: bytes,
        on_velocities: OnVelocities | None = None,
        captured: float | None = None,
        on_text: OnText | None = None,
        travel: Travel | None = None,
    ) -> Decision:
        """Decide on one frame (JPEG bytes). Raises ActionFailed where neither cloud nor draft model answers.

        ``travel`` is the robot's odometry at the moment from which this action is carried out, None if there is none.
        """
        if (reflex := answer_by_reflex(self.command, self.style)) is not None:
            self._still = self.rest_after
            unknown = f"{self.command[:80]!r} is not understood: the pair knows {KNOWN_QUANTITIES}"
            problem = unknown if reflex.note == NOT_UNDERSTOOD else ""
            return Decision(answer_without_model(format_action(reflex)), reflex, problem)
        said: set[tuple[float, float, bool]] = set()

        def on_event(progress: Progress) -> None:
            if on_text is not None:
                on_text(progress.committed_text, progress.text)
            for text, verified in ((progress.committed_text, True), (progress.text, False)):
                velocities = parse_velocity_prefix(text)
                if velocities is not None:
                    news = (*velocities, verified)
                    if news not in said and on_velocities is not None:
                        said.add(news)
                        on_velocities(*news)
                    return

        last = self._counter.measured(self._last_text, travel) if self._last_text else None
        result = self.runtime.act(
            build_prompt(self.command, last, self.style),
            (frame,),
            self._last_tokens,
            sampling=self.sampling,
            on_event=on_event,
            captured=captured,
        )
        try:
            action = parse_action(result.text)
        except ActionError as error:
            self._still = 0
            cut = f"the deadline passed when the answer had come to {result.text[:60]!r}; the robot stops"
            return Decision(result, None, str(error) if result.complete else cut, last)
        still = result.verified and not action.moves and result.text == self._last_text
        self._still = self._still + 1 if still else int(result.verified and not action.moves)
        self._last_text, self._last_tokens = result.text, result.tokens
        self._counter.decided(result.text, travel)
        return Decision(result, action, action.contradiction, last)
