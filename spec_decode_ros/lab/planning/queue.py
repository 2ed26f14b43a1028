"""One GPU and the robots that stay with it, as fast as Python can: a queue of recorded actions for shared passes."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.planning.server import PlannedServer
from spec_decode_ros.server.scheduler import NEWEST_PASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spec_decode_ros.lab.planning.library import Library, Pick

PERIOD_JITTER = 0.1
"""Robots' clocks are not in step: each period is longer or shorter by this share of it, at most."""

WARM_UP_PERIODS = 2
"""Periods of the robots that are not looked at."""

_NEWEST = 0.05
"""Weight of the newest pass in how much longer passes take than alone."""

_MOST_YIELDS = 2
"""So often an action yields at most, or overloaded servers would have it recorded in endless ways."""


@dataclass(frozen=True)
class PassRound:
    """What a server did from `began` to `ended`, in seconds; robots by number, in the order of the line.

    Attributes:
        prepared: whose prompts were made ready first.
        seated: who had a whole part in the pass that followed.
        reading: who had a part of a prompt read in it, and stays in line.
        left: who was in line for the pass and had no part in it.
    """

    began: float
    ended: float
    prepared: tuple[int, ...] = ()
    seated: tuple[int, ...] = ()
    reading: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class Served:
    """What came of some time of a server.

    Attributes:
        ttva_s: seconds from capture to verified action, of every action begun in that time, in rising order.
        utilisation: share of the time in which the server was at work.
        kept: actions begun, over those that the robots would have liked to begin.
        passes: target passes an action, whoever shared them.
    """

    ttva_s: NDArray[np.float64]
    utilisation: float
    kept: float
    passes: float


class _QueuedRobot:
    def __init__(self, action: Pick) -> None:
        self.action = action
        self.follow(())
        self.captured = 0.0
        self.measured = False
        self.is_new = True  # its prompt is not ready
        self.visit = 0  # passes that are over
        self.unread = 0  # tokens of the prompt
        self.awaited = 0  # the number of the event that it waits for

    def follow(self, crowded: tuple[int, ...]) -> None:
        """Go on as it does if in these of its passes, from 0, somebody found no seat."""
        self.crowded, self.trace = crowded, self.action.trace(crowded)


class Gpu:
    """One run of one server.

    Args:
        server: what its work costs.
        library: what actions ask of it.
        robots: how many stay with it.
        rate: actions per second that each would like; the next frame is taken when the last action is over.
        seed: of everything that is drawn.
        log: every round is appended to it, where there is one.
    """

    def __init__(
        self,
        server: PlannedServer,
        library: Library,
        robots: int,
        rate: float,
        seed: int = 0,
        log: list[PassRound] | None = None,
    ) -> None:
        if robots < 1 or not rate > 0:
            raise SpecDecodeError("a server is simulated with at least one robot and a rate above 0")
        self._server, self._library, self._rate, self._log = server, library, rate, log
        self._rng = random.Random(seed)
        self._now = self._from_s = self._until_s = 0.0
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
        """Serve until about so many actions were measured, and at least four of each robot."""
        period_s, robots = 1 / self._rate, len(self._robots)
        self._from_s = WARM_UP_PERIODS * period_s
        self._until_s = self._from_s + max(actions / robots, 4) * period_s
        for number in range(robots):
            self._capture(number, self._rng.random() * period_s)
        while self._now < self._until_s or self._unfinished or self._begun < robots:
            self._arrive()
            if self._new or self._ready:
                self._round()
            else:
                self._now = self._coming[0][0]
        length_s = self._until_s - self._from_s
        return Served(
            np.sort(np.array(self._ttva_s)),
            self._busy_s / length_s,
            self._begun / (robots * self._rate * length_s),
            self._passes / max(1, len(self._ttva_s)),
        )

    # ---- the robots ----------------------------------------------------------------------------------------

    def _pick(self) -> Pick:
        return self._library.pick(self._extra_s, self._sharing, self._rng)

    def _capture(self, number: int, at: float) -> None:
        robot = self._robots[number]
        robot.action, robot.captured, robot.is_new, robot.visit = self._pick(), at, True, 0
        robot.follow(())
        robot.unread = self._server.prompt_tokens
        # A server may be so full that robots come to begin an action only after that time.
        robot.measured = self._from_s <= at and (at < self._until_s or self._begun < len(self._robots))
        if robot.measured:
            self._begun += 1
            self._unfinished += 1
            self._until_s = max(self._until_s, at)
        self._come(number, at + robot.trace.arrive_s)

    def _over(self, number: int) -> None:
        robot = self._robots[number]
        at = self._now + robot.trace.tail_s
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
        """Whatever has come by now stands in line."""
        coming = self._coming
        while coming and coming[0][0] <= self._now:
            _, order, number = heapq.heappop(coming)
            robot = self._robots[number]
            if robot.awaited == order:
                (self._new if robot.is_new else self._ready).append(number)
                self._yielding.pop(number, None)

    # ---- the server ----------------------------------------------------------------------------------------

    def _round(self) -> None:
        began = self._now
        in_line = {*self._new, *self._ready}
        prepared = self._prepare()
        seats = self._seats()
        left = tuple(self._ready)
        if seats:
            self._sharing += NEWEST_PASS * (len(seats) - self._sharing)
            # Who came while prompts were made ready shares the next pass, and need not be made room for.
            left_out = any(number in in_line for number in (*self._new, *self._ready))
            self._now += self._pass_s(seats)
            self._arrive()
            for number, prefill in seats:
                if prefill:
                    self._ready.append(number)
                else:
                    self._visited(number, left_out)
        if not (self._new or self._ready):
            self._go_on_where_nobody_waits()
        self._busy_s += max(0.0, min(self._now, self._until_s) - max(began, self._from_s))
        if self._log is not None:
            whole = tuple(number for number, prefill in seats if not prefill)
            reading = tuple(number for number, prefill in seats if prefill)
            self._log.append(PassRound(began, self._now, tuple(prepared), whole, reading, left))

    def _prepare(self) -> list[int]:
        numbers = [self._new.popleft() for _ in range(min(self._server.new_in_a_round, len(self._new)))]
        self._now += len(numbers) * self._server.times.prepare
        self._arrive()
        for number in numbers:
            self._robots[number].is_new = False
            self._await_visit(number)
        return numbers

    def _await_visit(self, number: int) -> None:
        """Stand in line for the next pass, now or when there is something for it."""
        robot = self._robots[number]
        gap_s = robot.trace.visits[robot.visit].gap_s
        if gap_s > 0:
            self._come(number, self._now + gap_s)
            if robot.crowded and robot.crowded[-1] == robot.visit - 1:
                self._yielding[number] = None
        else:
            self._ready.append(number)

    def _go_on_where_nobody_waits(self) -> None:
        for number in self._yielding:
            robot = self._robots[number]
            robot.follow(robot.crowded[:-1])
            robot.awaited = 0
            self._ready.append(number)
        self._yielding.clear()

    def _seats(self) -> list[tuple[int, int]]:
        """Take those who share the next pass out of the line: (robot, tokens of the prompt only, or 0)."""
        turns = []
        for number in self._ready:
            robot = self._robots[number]
            turns.append((robot.unread, robot.trace.visits[robot.visit].draft))
        places = self._server.seats(turns)
        seats = [(self._ready[place], prefill) for place, prefill in places]
        if len(seats) == len(self._ready):
            self._ready = []
        else:
            taken = {place for place, _ in places}
            self._ready = [number for place, number in enumerate(self._ready) if place not in taken]
        return seats

    def _pass_s(self, seats: list[tuple[int, int]]) -> float:
        """How long the server's own drafts and the pass take."""
        tokens = prompt_tokens = 0
        drafting_s: list[float] = []
        alone_s = 0.0
        followers = 0
        for number, prefill in seats:
            robot = self._robots[number]
            if prefill:
                prompt_tokens += prefill
                robot.unread -= prefill
                continue
            visit = robot.trace.visits[robot.visit]
            if robot.unread:
                prompt_tokens += robot.unread
                robot.unread = 0
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
