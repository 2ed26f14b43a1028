"""One GPU and its robots, message by message with the state machines: the reference for `lab.planning.queue`."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import EdgeCommand, RunPass
from spec_decode_ros.decoding.testing import EventQueue, Scenario, VirtualAction
from spec_decode_ros.lab.planning.library import Library
from spec_decode_ros.lab.planning.queue import PERIOD_JITTER, WARM_UP_PERIODS, PlannedServer, Served
from spec_decode_ros.server.scheduler import NEWEST_PASS


class SharedAction(VirtualAction):
    """One action of one robot on a server that others use too."""

    def __init__(
        self, server: SharedServer, on_end: Callable[[SharedAction], None], scenario: Scenario
    ) -> None:
        super().__init__(scenario, server.events)
        self._server, self._on_end = server, on_end
        self.not_prefilled = server.costs.prompt_tokens

    def obey_edge(self, commands: Sequence[EdgeCommand]) -> None:
        was_open = self.ending is None
        super().obey_edge(commands)
        if was_open and self.ending is not None:
            self._on_end(self)

    def prepare(self, cloud: CloudMachine) -> None:
        self._server.new.append((self, cloud))
        self._server.wake()

    def take_turn(self, cloud: CloudMachine, run: RunPass) -> None:
        self._server.ready.append((self, cloud, run))
        self._server.wake()


class SharedServer:
    """The rounds of `server.engine` in virtual time."""

    def __init__(self, costs: PlannedServer, events: EventQueue) -> None:
        self.costs, self.events = costs, events
        self.new: deque[tuple[SharedAction, CloudMachine]] = deque()
        self.ready: list[tuple[SharedAction, CloudMachine, RunPass]] = []
        self.open: dict[SharedAction, None] = {}
        self.rounds: list[tuple[float, float]] = []
        self.sharing = 1.0
        self._at_work = False
        self._in_line: set[SharedAction] = set()  # who waited when the round began
        self._left_out = False  # whether one of these found no slot in the running pass

    def wake(self) -> None:
        """Begin a round, after all other events of this moment."""
        if not self._at_work:
            self._at_work = True
            self.events.at(self.events.now, self._prepare)

    def _waiting(self) -> Iterator[SharedAction]:
        return itertools.chain((action for action, _ in self.new), (action for action, _, _ in self.ready))

    def _prepare(self) -> None:
        self._began = self.events.now
        self._in_line = set(self._waiting())
        count = min(self.costs.new_in_a_round, len(self.new))
        taken = [self.new.popleft() for _ in range(count)]
        self.events.at(self.events.now + count * self.costs.times.prepare, partial(self._pass, taken))

    def _pass(self, prepared: Sequence[tuple[SharedAction, CloudMachine]]) -> None:
        for action, cloud in prepared:
            action.obey_cloud(cloud, cloud.prepared())
        places = self.costs.slots([(action.not_prefilled, len(run.draft)) for action, _, run in self.ready])
        slots = [(*self.ready[place], prefill) for place, prefill in places]
        taken = {place for place, _ in places}
        self.ready = [entry for place, entry in enumerate(self.ready) if place not in taken]
        if slots:
            self.sharing += NEWEST_PASS * (len(slots) - self.sharing)
        self._left_out = any(action in self._in_line for action in self._waiting())
        made, drafting_s = [], []
        for action, _, run, prefill in slots:
            tokens, seconds = action.server_draft(run) if run.server_tokens and not prefill else ((), 0.0)
            made.append(tokens)
            drafting_s.append(seconds)
        after_s = self.costs.drafting_s(drafting_s)
        self.events.at(self.events.now + after_s, partial(self._verify, slots, made))

    def _verify(
        self,
        slots: Sequence[tuple[SharedAction, CloudMachine, RunPass, int]],
        made: Sequence[tuple[int, ...]],
    ) -> None:
        tokens = prompt_tokens = 0
        runs: list[RunPass] = []
        for (action, cloud, run, prefill), draft in zip(slots, made, strict=True):
            read = prefill or action.not_prefilled
            action.not_prefilled -= read
            prompt_tokens += read
            if not prefill:
                run = cloud.pass_begins(draft)
                tokens += 1 + len(run.tree or run.draft)
            runs.append(run)
        seconds = self.costs.pass_s(tokens, prompt_tokens) if slots else 0.0
        # First, so that actions that are told of the pass see who waited before it.
        self.events.at(self.events.now + seconds, partial(self._report, slots))
        for (action, cloud, _, prefill), run in zip(slots, runs, strict=True):
            if not prefill:
                action.run_pass(cloud, run, seconds)

    def _report(self, slots: Sequence[tuple[SharedAction, CloudMachine, RunPass, int]]) -> None:
        """The pass is over; the actions are told after this."""
        self.rounds.append((self._began, self.events.now))
        for action, cloud, run, prefill in slots:
            if prefill:
                self.ready.append((action, cloud, run))
            else:
                cloud.others_wait(self._left_out)
        self.events.at(self.events.now, self._next)

    def _next(self) -> None:
        self._at_work = False
        if not (self.new or self.ready):
            for action in list(self.open):
                if action.cloud is not None and action.cloud.yielding:
                    action.obey_cloud(action.cloud, action.cloud.others_wait(False))
        if self.new or self.ready:
            self.wake()


def serve(
    server: PlannedServer, library: Library, robots: int, rate: float, actions: int, seed: int = 0
) -> Served:
    """What `queue.Gpu.run` returns, from the actions of its library."""
    return _Run(server, library, robots, rate, seed).run(actions)


class _Run:
    def __init__(self, server: PlannedServer, library: Library, robots: int, rate: float, seed: int) -> None:
        self._library, self._robots, self._rate = library, robots, rate
        self._rng = random.Random(seed)
        self._events = EventQueue()
        self._server = SharedServer(server, self._events)
        self._stale = AcceptanceAverage(0.5)
        self._ttva_s: list[float] = []
        self._begun = self._unfinished = self._passes = 0

    def run(self, actions: int) -> Served:
        period_s = 1 / self._rate
        self._from_s = WARM_UP_PERIODS * period_s
        self._until_s = self._from_s + max(actions / self._robots, 4) * period_s
        for _ in range(self._robots):
            self._events.at(self._rng.random() * period_s, self._capture)
        while self._events.now < self._until_s or self._unfinished:
            self._events.happen()
        length_s = self._until_s - self._from_s
        busy_s = sum(
            max(0.0, min(ended, self._until_s) - max(began, self._from_s))
            for began, ended in self._server.rounds
        )
        return Served(
            np.sort(np.array(self._ttva_s)),
            busy_s / length_s,
            self._begun / (self._robots * self._rate * length_s),
            self._passes / max(1, len(self._ttva_s)),
        )

    def _capture(self) -> None:
        seed = self._rng.randrange(self._library.size)
        scenario = self._library.scenario(seed, self._stale, self._server.sharing)
        action = SharedAction(self._server, self._over, scenario)
        measured = self._from_s <= self._events.now < self._until_s
        self._begun += measured
        self._unfinished += measured
        self._server.open[action] = None
        action.start()

    def _over(self, action: SharedAction) -> None:
        del self._server.open[action]
        if self._from_s <= action.began < self._until_s:
            self._ttva_s.append(action.outcome.at)
            self._unfinished -= 1
            self._passes += len(action.outcome.widths)
        if action.cloud is not None:
            self._stale.observe(*action.cloud.stale_judged)
        period_s = (1 + PERIOD_JITTER * (2 * self._rng.random() - 1)) / self._rate
        self._events.at(max(action.began + period_s, self._events.now), self._capture)
