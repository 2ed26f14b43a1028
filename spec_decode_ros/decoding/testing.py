"""Both machines in virtual time: a queue of events for sockets and threads, functions of the text for models."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import (
    CloudCommand,
    Done,
    DraftFrom,
    EdgeCommand,
    Failed,
    Finished,
    Prepare,
    RunPass,
    Send,
    Show,
    StopDrafting,
    Wait,
)
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import Branches, Close, Down, Draft, Error, ErrorCode, Open
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.tree import Tree, path

NextToken = Callable[[Sequence[int]], "int | None"]
"""The token that follows a sequence; None when the model can say no more (a target always can).

For separate rejection sampling a target says its warped `Distribution` instead, a drafter a `DraftedToken`.
"""


class EventQueue:
    """A queue of what is going to happen, in the order of time; `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def next_at(self) -> float:
        return self._queue[0][0]

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), action))

    def happen(self) -> None:
        """Let the next one happen."""
        self.now, _, action = heapq.heappop(self._queue)
        action()


@dataclass(frozen=True)
class Times:
    """What work costs, in seconds. A pass over a draft of k tokens takes `step + k * per_token`.

    `server_draft_prefill` and `server_draft_token` are those of the server's own draft model. `compute_token` is what the
    arithmetic of a token takes: a pass takes `step`, in which the weights are read, as long as all its arithmetic is done
    in that time.
    """

    draft_prefill: float = 0.005
    draft_token: float = 0.0012
    prepare: float = 0.002
    prefill: float = 0.011
    step: float = 0.0025
    per_token: float = 0.00011
    server_draft_prefill: float = 0.0
    server_draft_token: float = 0.0012
    compute_token: float = 0.0

    def target_pass(self, first: bool, width: int) -> float:
        """A pass of one action over a draft of so many tokens; the first one reads the prompt too."""
        return self.shared_pass(width + 1, float(first))

    def shared_pass(self, tokens: int, prompts: float) -> float:
        """A pass over so many tokens of answers, of all actions in it together, and so many prompts or parts of them."""
        arithmetic = prompts * self.prefill + max(0.0, tokens - prompts) * self.compute_token
        return max(self.step, arithmetic) + max(0, tokens - 1) * self.per_token


class VirtualLink(Protocol):
    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        """When this message, sent now, arrives: once, never or several times."""
        ...


@dataclass
class SteadyLink:
    """Round-trip time, upload of a frame and of each message with drafts; in order, nothing lost."""

    rtt: float = 0.0
    frame_upload: float = 0.0
    draft_upload: float = 0.0
    _up_free: float = 0.0

    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        if not upward:
            return [now + self.rtt / 2]
        drafts = self.draft_upload
        upload = {Open: self.frame_upload, Draft: drafts, Branches: drafts}.get(type(message), 0.0)
        self._up_free = max(now, self._up_free) + upload
        return [self._up_free + self.rtt / 2]


@dataclass(frozen=True)
class Exit:
    """An early exit: when in a pass it is reached (0 to 1), and what it would choose after a text, with its confidence."""

    fraction: float
    choose: Callable[[Sequence[int]], tuple[int, float]]


@dataclass
class VirtualResult:
    """What became of one action. Times in seconds from its start."""

    ending: Done | Failed
    at: float
    first_draft_at: float | None
    up: list[object] = field(default_factory=list)
    down: list[object] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    finished: int = 0
    cloud_busy: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """What one action on one edge and one server is played from.

    Attributes:
        target: the large model.
        drafter: the small one, on the edge and, with `server_draft_tokens`, on the server too.
        forget_at: when the server is restarted.
        keeps_early_drafts: whether the server keeps a draft that overtakes its `Open`.
        exits, sure: early exits of the target, and how confident one has to be.
        server_draft_tokens: how many tokens the server's own draft model makes for a pass.
        second_choice: of the draft model after a text; with `trees` also beside the server's own draft.
        others_wait: other robots wait for the target all the time.
        stale_tokens, measured, jump_forward: of the cloud machine.
    """

    method: Method
    request: Request
    eos: Collection[int]
    target: NextToken
    drafter: NextToken
    link: VirtualLink
    times: Times = Times()
    forget_at: Sequence[float] = ()
    keeps_early_drafts: bool = True
    exits: Sequence[Exit] = ()
    server_draft_tokens: int = 0
    second_choice: Callable[[Sequence[int]], int] | None = None
    trees: bool = False
    sure: float = 0.9
    stale_tokens: int = 32
    others_wait: bool = False
    measured: Measurements | None = None
    jump_forward: Callable[[Sequence[int]], Sequence[int]] | None = None


class VirtualAction:
    """Plays one scenario; several share a server's time if they are given the same `events`."""

    def __init__(self, scenario: Scenario, events: EventQueue | None = None) -> None:
        self.scenario, self.times, self.eos = scenario, scenario.times, scenario.eos
        self.server_draft_ready = False
        self.edge = EdgeMachine(scenario.method, scenario.request, scenario.eos)
        self.cloud: CloudMachine | None = None
        self.closed = False
        self.prefilled = False
        self.drafting: DraftFrom | None = None
        self.draft_model_ready = False
        self.tick_at: float | None = None
        self.events = EventQueue() if events is None else events
        self.began = self.events.now
        self.ending: Done | Failed | None = None
        self.outcome = VirtualResult(Failed("none", "none"), 0.0, None)
        for at in scenario.forget_at:
            self.at(at, self.forget)

    def run(self, limit_s: float = 1e6, limit_events: int = 100_000) -> VirtualResult:
        """Play the action to its end and let the messages that are still on their way arrive."""
        self.start()
        for _ in range(limit_events):
            if not self.events or self.events.next_at > limit_s:
                break
            self.events.happen()
        if self.ending is None:
            raise AssertionError(f"No end by {self.now} s; edge {self.edge.state}, {self.edge.answer}")
        return self.outcome

    def start(self) -> None:
        """Begin now; the rest happens as the events do."""
        self.began = self.now
        self.obey_edge(self.edge.start(self.now))

    @property
    def now(self) -> float:
        return self.events.now

    def at(self, time: float, action: Callable[[], None]) -> None:
        self.events.at(time, action)

    # ---- the edge ------------------------------------------------------------------------------------------

    def obey_edge(self, commands: Sequence[EdgeCommand]) -> None:
        for command in commands:
            assert self.ending is None, f"{command} after the end"
            match command:
                case Send(message):
                    self.outcome.up.append(message)
                    for arrival in self.scenario.link.arrivals(self.now, True, message):
                        self.at(arrival, partial(self.reach_cloud, cast(Any, message)))
                case DraftFrom(run, prefix, _):
                    self.drafting = command
                    start = self.times.draft_token
                    if not self.draft_model_ready:
                        start += self.times.draft_prefill
                        self.draft_model_ready = True
                    self.at(self.now + start, partial(self.draft_token, run, prefix))
                case StopDrafting():
                    self.drafting = None
                case Show(tokens, committed):
                    if tokens and self.outcome.first_draft_at is None and committed < len(tokens):
                        self.outcome.first_draft_at = self.now - self.began
                case Done() | Failed():
                    self.ending = self.outcome.ending = command
                    self.outcome.at = self.now - self.began
        self.plan_tick()

    def draft_token(self, run: int, text: tuple[int, ...]) -> None:
        current = self.drafting
        if current is None or current.run != run:
            return
        said = self.scenario.drafter(text)
        if said is None:
            self.obey_edge(self.edge.draft_ended(run))
            return
        token = said.token if isinstance(said, DraftedToken) else said
        text = (*text, token)
        if len(text) - len(current.prefix) < current.budget and token not in self.eos:
            self.at(self.now + self.times.draft_token, partial(self.draft_token, run, text))
        second = self.scenario.second_choice(text[:-1]) if self.scenario.second_choice else None
        self.obey_edge(self.edge.drafted(run, said, None if second is None else (second, 0.2)))

    def plan_tick(self) -> None:
        wake = self.edge.wake_at
        if wake is not None and (self.tick_at is None or not self.now <= self.tick_at <= wake):
            self.tick_at = max(wake, self.now)
            self.at(self.tick_at, self.tick)

    def tick(self) -> None:
        if self.tick_at is not None and self.now >= self.tick_at:
            self.tick_at = None
            self.obey_edge(self.edge.tick(self.now))

    def reach_edge(self, message: Down) -> None:
        self.obey_edge(self.edge.receive(message))

    # ---- the cloud -----------------------------------------------------------------------------------------

    def reach_cloud(self, message: Open | Draft | Branches | Close) -> None:
        opens = isinstance(message, Open) and not self.closed
        if self.cloud is None and (
            opens or (self.scenario.keeps_early_drafts and not isinstance(message, Close))
        ):
            self.cloud = CloudMachine(
                self.eos,
                server_draft_tokens=self.scenario.server_draft_tokens,
                stale_tokens=self.scenario.stale_tokens,
                measured=self.scenario.measured,
                jump_forward=self.scenario.jump_forward,
            )
            self.cloud.others_wait(self.scenario.others_wait)
        if isinstance(message, Close):
            self.closed = True
        if self.cloud is None:
            if not isinstance(message, Close):
                self.send_down(Error(message.action_id, ErrorCode.UNKNOWN_ACTION, "unknown"))
            return
        self.obey_cloud(self.cloud, self.cloud.receive(message))

    def obey_cloud(self, cloud: CloudMachine, commands: Sequence[CloudCommand]) -> None:
        if cloud is not self.cloud:
            return  # of a server that was restarted
        for command in commands:
            match command:
                case Send(message):
                    self.send_down(message)
                case Prepare():
                    self.prepare(cloud)
                case RunPass(committed):
                    assert committed == cloud.committed
                    self.take_turn(cloud, command)
                case Wait(milliseconds):
                    self.after(milliseconds / 1e3, cloud, cloud.waited)
                case Finished():
                    self.outcome.finished += 1

    def prepare(self, cloud: CloudMachine) -> None:
        """Make the prompt ready: here at once, for this server has nothing else to do."""
        self.after(self.times.prepare, cloud, cloud.prepared)

    def take_turn(self, cloud: CloudMachine, run: RunPass) -> None:
        """Run a pass: here at once. The server's own draft comes first, where it is asked for one."""
        if not run.server_tokens:
            self.run_pass(cloud, run)
            return
        made, seconds = self.server_draft(run)
        self.outcome.cloud_busy += seconds

        def drafted() -> list[CloudCommand]:
            self.run_pass(cloud, cloud.pass_begins(made, self.alternatives(run, made)))
            return []

        self.after(seconds, cloud, drafted)

    def alternatives(self, run: RunPass, made: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Beginnings of the server's own draft with a second choice at their end."""
        second = self.scenario.second_choice
        if second is None or not self.scenario.trees:
            return []
        return [(*made[:place], second([*run.committed, *made[:place]])) for place in range(len(made))]

    def server_draft(self, run: RunPass) -> tuple[tuple[int, ...], float]:
        """What the server's own draft model makes for a pass, and how long it takes for it."""
        made: list[int] = []
        while len(made) < run.server_tokens and (not made or made[-1] not in self.eos):
            token = self.scenario.drafter([*run.committed, *made])
            if token is None:
                break
            made.append(cast(int, token))
        seconds = len(made) * self.times.server_draft_token
        if run.server_tokens and not self.server_draft_ready:
            seconds += self.times.server_draft_prefill
            self.server_draft_ready = True
        return tuple(made), seconds

    def run_pass(self, cloud: CloudMachine, run: RunPass, shared: float | None = None) -> None:
        """A pass that begins now; `shared` is how long it takes where other actions have a part in it."""
        tree = run.tree or Tree.line(run.draft)
        self.outcome.widths.append(tree.height)
        seconds = self.times.target_pass(not self.prefilled, len(tree)) if shared is None else shared
        self.prefilled = True
        self.outcome.cloud_busy += seconds
        branches = [path(tree, node) for node in range(-1, len(tree))]
        texts = [[*run.committed, *(tree.tokens[node] for node in branch)] for branch in branches]
        for way_out in self.scenario.exits:
            said = [way_out.choose(text) for text in texts]
            choices, confidences = zip(*said, strict=True)
            self.after(
                way_out.fraction * seconds,
                cloud,
                partial(cloud.early, choices, confidences, self.scenario.sure),
            )
        verdict: Any = tuple(self.scenario.target(text) for text in texts)
        self.after(seconds, cloud, partial(cloud.pass_finished, verdict, seconds * 1e3))

    def after(self, seconds: float, cloud: CloudMachine, event: Callable[[], Sequence[CloudCommand]]) -> None:
        def happen() -> None:
            if cloud is self.cloud:
                self.obey_cloud(cloud, event())

        self.at(self.now + seconds, happen)

    def send_down(self, message: Any) -> None:
        self.outcome.down.append(message)
        for arrival in self.scenario.link.arrivals(self.now, False, message):
            self.at(arrival, lambda: self.reach_edge(message))

    def forget(self) -> None:
        self.cloud, self.prefilled = None, False


def decode_alone(model: NextToken, eos: Collection[int], max_tokens: int) -> tuple[int, ...]:
    """What a model says when it is asked for one token after the other."""
    answer: list[int] = []
    while len(answer) < max_tokens and (not answer or answer[-1] not in eos):
        token = model(answer)
        if token is None:
            break
        answer.append(token)
    return tuple(answer)
