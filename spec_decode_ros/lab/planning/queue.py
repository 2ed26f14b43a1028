"""Simulates one GPU and its robots, fast: recorded actions queue for shared passes."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spec_decode_ros.decoding.testing import Times
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.grid import Cell, World
from spec_decode_ros.models.warmup import PassTiming
from spec_decode_ros.server.scheduler import NEWEST_PASS, VerifyRequest, pass_budget, schedule_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spec_decode_ros.lab.planning.library import Library, LibraryAction

PERIOD_JITTER = 0.1
"""Largest deviation of a robot's period, as a share of it."""

WARM_UP_PERIODS = 2
"""Periods of the robots that are not measured."""

_NEWEST = 0.05
"""Weight of the newest pass in the average of how much longer passes take than alone."""

_MOST_YIELDS = 2  # per action, or overloaded servers would need traces without end


@dataclass(frozen=True)
class PlannedServer:
    """A GPU with the target on it, whose rounds are those of `server.engine`.

    `prompt_tokens` is the length of a prompt with its frame.
    """

    times: Times
    prompt_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise SpecDecodeError(f"prompt_tokens is at least 1, not {self.prompt_tokens}")

    @classmethod
    def of(cls, cell: Cell, world: World) -> PlannedServer:
        """The server that a profile describes."""
        return cls(world.times(cell), world.prompt_tokens)

    @cached_property
    def budget(self) -> int:
        """Tokens per pass, about, as a server chooses them."""
        return pass_budget(PassTiming(self.times.step * 1e3, self.times.per_token * 1e3))

    @cached_property
    def new_in_a_round(self) -> int:
        """Most prompts that are prepared before a pass."""
        return max(1, self.budget // self.prompt_tokens)

    @property
    def prompts_per_s(self) -> float:
        """Prompts per second if it did nothing else: an upper bound on actions per second for every method."""
        return 1 / max(self.times.prepare + self.times.prefill, 1e-9)

    def drafting_s(self, seconds: Sequence[float]) -> float:
        """Time of server drafts for several actions, from the time of each alone: they are made together."""
        return max(seconds, default=0.0)

    def pass_s(self, tokens: int, prompt_tokens: int) -> float:
        """Time of a pass over tokens of answers and drafts, and tokens of prompts."""
        return self.times.shared_pass(tokens, prompt_tokens / self.prompt_tokens)

    def slots(self, requests: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Which of the requests, each of prompt tokens not prefilled and draft tokens, share the next pass.

        A list of (index of the request, prompt tokens that are prefilled and nothing else; 0 for the whole request).
        """
        if sum(max(1, not_prefilled) + draft for not_prefilled, draft in requests) <= self.budget:
            return [(place, 0) for place in range(len(requests))]
        slots = schedule_step([_request(*request) for request in requests], self.budget)
        return [(slot.index, slot.prefill) for slot in slots]


@lru_cache(maxsize=4096)
def _request(not_prefilled: int, draft: int) -> VerifyRequest:
    return VerifyRequest(not_prefilled, draft)


@dataclass(frozen=True)
class Served:
    """Results of a simulated server: seconds from capture to verified action, rising, and target passes per action.

    `utilisation` is the share of the time in which it was busy, `kept` actions begun over those at the robots' rate.
    """

    ttva_s: NDArray[np.float64]
    utilisation: float
    kept: float
    passes: float


class _QueuedRobot:
    def __init__(self, action: LibraryAction) -> None:
        self.action = action
        self.follow(())
        self.captured = 0.0
        self.measured = False
        self.is_new = True  # its prompt is not prepared
        self.visit = 0  # passes that are over
        self.not_prefilled = 0  # tokens of the prompt
        self.awaited = 0  # number of the event that it waits for

    def follow(self, crowded: tuple[int, ...]) -> None:
        """Go on with the trace in which another action found no slot in these passes."""
        self.crowded, self.trace = crowded, self.action.trace(crowded)


class Gpu:
    """One run of one server, with robots that would each like to act `rate` times per second.

    A robot captures its next frame only when its last action is over.
    """

    def __init__(
        self, server: PlannedServer, library: Library, robots: int, rate: float, seed: int = 0
    ) -> None:
        self._server, self._library, self._rate = server, library, rate
        self._rng = random.Random(seed)
        self.now = self._from_s = self._until_s = 0.0
        self._extra_s, self._sharing = 0.0, 1.0
        self._coming: list[tuple[float, int, int]] = []
        self._order = 0
        self._new: deque[int] = deque()
        self._ready: list[int] = []
        self._yielding: dict[int, None] = {}
        self._robots = [_QueuedRobot(self._pick()) for _ in range(robots)]
        # What is measured.
        self._begun = self._unfinished = self._passes = 0
        self._busy_s = 0.0
        self._ttva_s: list[float] = []

    def run(self, actions: int) -> Served:
        """Serve until about `actions` actions are measured, and at least four of each robot."""
        period_s, robots = 1 / self._rate, len(self._robots)
        self._from_s = WARM_UP_PERIODS * period_s
        self._until_s = self._from_s + max(actions / robots, 4) * period_s
        for number in range(robots):
            self._capture(number, self._rng.random() * period_s)
        while self.now < self._until_s or self._unfinished or self._begun < robots:
            self._arrive()
            if self._new or self._ready:
                began = self.now
                self.step()
                self._busy_s += max(0.0, min(self.now, self._until_s) - max(began, self._from_s))
            else:
                self.now = self._coming[0][0]
        length_s = self._until_s - self._from_s
        return Served(
            np.sort(np.array(self._ttva_s)),
            self._busy_s / length_s,
            self._begun / (robots * self._rate * length_s),
            self._passes / max(1, len(self._ttva_s)),
        )

    def _pick(self) -> LibraryAction:
        return self._library.pick(self._extra_s, self._sharing, self._rng)

    def _capture(self, number: int, at: float) -> None:
        robot = self._robots[number]
        robot.action, robot.captured, robot.is_new, robot.visit = self._pick(), at, True, 0
        robot.follow(())
        robot.not_prefilled = self._server.prompt_tokens
        # On an overloaded server some robots begin their first action only after that time.
        robot.measured = self._from_s <= at and (at < self._until_s or self._begun < len(self._robots))
        if robot.measured:
            self._begun += 1
            self._unfinished += 1
            self._until_s = max(self._until_s, at)
        self._come(number, at + robot.trace.arrive_s)

    def _over(self, number: int) -> None:
        robot = self._robots[number]
        at = self.now + robot.trace.tail_s
        if robot.measured:
            self._ttva_s.append(at - robot.captured)
            self._unfinished -= 1
            self._passes += robot.visit
        period = (1 + PERIOD_JITTER * (2 * self._rng.random() - 1)) / self._rate
        self._capture(number, max(robot.captured + period, at))

    def _come(self, number: int, at: float) -> None:
        self._order += 1
        self._robots[number].awaited = self._order
        heapq.heappush(self._coming, (at, self._order, number))

    def _arrive(self) -> None:
        """Queue everything that has come by now."""
        coming = self._coming
        while coming and coming[0][0] <= self.now:
            _, order, number = heapq.heappop(coming)
            robot = self._robots[number]
            if robot.awaited == order:
                (self._new if robot.is_new else self._ready).append(number)
                self._yielding.pop(number, None)

    def step(self) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        """Prepare prompts, then run a pass.

        Returns the robots whose prompts were prepared, (robot, prompt tokens only or 0) of those in the pass, and the
        robots that were ready and found no slot in it.
        """
        waiting = {*self._new, *self._ready}
        prepared = self._prepare()
        slots = self._slots()
        left = list(self._ready)
        if slots:
            self._sharing += NEWEST_PASS * (len(slots) - self._sharing)
            # Robots that came while prompts were prepared join the next pass; no action need yield to them.
            left_out = any(number in waiting for number in (*self._new, *self._ready))
            self.now += self._pass_s(slots)
            self._arrive()
            for number, prefill in slots:
                if prefill:
                    self._ready.append(number)
                else:
                    self._visited(number, left_out)
        if not (self._new or self._ready):
            self._resume_yielding()
        return prepared, slots, left

    def _prepare(self) -> list[int]:
        numbers = [self._new.popleft() for _ in range(min(self._server.new_in_a_round, len(self._new)))]
        self.now += len(numbers) * self._server.times.prepare
        self._arrive()
        for number in numbers:
            self._robots[number].is_new = False
            self._await_visit(number)
        return numbers

    def _await_visit(self, number: int) -> None:
        """Queue for the next pass, now or when the robot has something for it."""
        robot = self._robots[number]
        gap_s = robot.trace.visits[robot.visit].gap_s
        if gap_s > 0:
            self._come(number, self.now + gap_s)
            if robot.crowded and robot.crowded[-1] == robot.visit - 1:
                self._yielding[number] = None
        else:
            self._ready.append(number)

    def _resume_yielding(self) -> None:
        """Nobody waits: actions that yielded go on."""
        for number in self._yielding:
            robot = self._robots[number]
            robot.follow(robot.crowded[:-1])
            robot.awaited = 0
            self._ready.append(number)
        self._yielding.clear()

    def _slots(self) -> list[tuple[int, int]]:
        """Take the robots that share the next pass out of the queue: (robot, prompt tokens only, or 0)."""
        robots = [self._robots[number] for number in self._ready]
        slots = self._server.slots([(r.not_prefilled, r.trace.visits[r.visit].draft) for r in robots])
        queued, taken = self._ready, {place for place, _ in slots}
        self._ready = [number for place, number in enumerate(queued) if place not in taken]
        return [(queued[place], prefill) for place, prefill in slots]

    def _pass_s(self, slots: list[tuple[int, int]]) -> float:
        """Time of the server drafts and of the pass."""
        tokens = prompt_tokens = 0
        drafting_s: list[float] = []
        alone_s = 0.0
        followers = 0
        for number, prefill in slots:
            robot = self._robots[number]
            if prefill:
                prompt_tokens += prefill
                robot.not_prefilled -= prefill
                continue
            visit = robot.trace.visits[robot.visit]
            if robot.not_prefilled:
                prompt_tokens += robot.not_prefilled
                robot.not_prefilled = 0
            else:
                followers += 1
                alone_s += visit.own_s + self._server.times.target_pass(False, visit.draft)
            tokens += 1 + visit.draft
            if visit.own_s:
                drafting_s.append(visit.own_s)
        seconds = self._server.drafting_s(drafting_s) + self._server.pass_s(tokens, prompt_tokens)
        if followers:
            extra_s = max(0.0, seconds - alone_s / followers)
            self._extra_s += _NEWEST * (extra_s - self._extra_s)
        return seconds

    def _visited(self, number: int, left_out: bool) -> None:
        robot = self._robots[number]
        robot.visit += 1
        if robot.visit == len(robot.trace.visits):
            self._over(number)
            return
        if left_out and len(robot.crowded) < _MOST_YIELDS:
            robot.follow((*robot.crowded, robot.visit - 1))
        self._await_visit(number)
