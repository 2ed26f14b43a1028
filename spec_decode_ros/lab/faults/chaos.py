"""A chaos run: services, links and robots, the faults at their times, and the account."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.cores import divided, on
from spec_decode_ros.lab.bench.fleet_recording import DraftRecording
from spec_decode_ros.lab.bench.fleet_robots import FleetOrders, Way
from spec_decode_ros.lab.faults.action_account import ActionAccount, Happened
from spec_decode_ros.lab.faults.fault_plan import KINDS, Fault, FaultKind, planned
from spec_decode_ros.lab.faults.robot_groups import Group
from spec_decode_ros.lab.faults.services import ServedAddress, plain_service, replicated_service
from spec_decode_ros.lab.faults.standstill import Standstill
from spec_decode_ros.lab.network.link import LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFault, PrankKind

_PLAIN = 2
"""Services that are one process each; of replicas it is these that are killed, not what keeps them."""

_AT_ONCE = 64
"""Faults that go on at the same time, at most."""

_UNPLAYED_S = 10.0
_CALM_S, _LONGEST_CALM_S = 2.0, 60.0
_FOR_EVER_S = 1e6
_GRACE_S = 3.0
_MORE_PLANS = 5


@dataclass(frozen=True)
class ChaosPlan:
    """What is run.

    Attributes:
        faults: how many are injected.
        every_s: the time between two of them, on average.
        ways: in which robots decode, in turns.
        groups: processes of robots, each with links of its own.
        robots: in each of them.
        rate: actions a second of each robot.
        deadline_s: longest action; its answer is unverified then.
        rtt_ms: of the links.
        replicas: also a service of replicas under Ray, with a group of robots.
        seed: of faults, phases and frames.
    """

    ways: tuple[Way, ...]
    faults: int = 1000
    every_s: float = 0.5
    groups: int = 3
    robots: int = 4
    rate: float = 1.0
    deadline_s: float = 4.0
    rtt_ms: float = 20.0
    replicas: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.groups < 1 or not 1 <= self.robots <= 100:
            raise SpecDecodeError("a chaos run needs 1 group or more, of 1 to 100 robots")
        for name in ("faults", "every_s", "rate", "deadline_s"):
            if not getattr(self, name) > 0:
                raise SpecDecodeError(f"{name} of a chaos run must be above 0, not {getattr(self, name)}")

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """Faults that this run can inject."""
        return tuple(kind for kind in KINDS if kind != "replica killed" or self.replicas)


class Chaos:
    """Everything that runs; see :func:`chaos_rig`."""

    def __init__(
        self,
        plan: ChaosPlan,
        services: Sequence[ServedAddress],
        groups: Sequence[Group],
        standstill: Standstill,
    ) -> None:
        self.plan, self.services, self.groups = plan, services, groups
        self._standstill = standstill
        self.happened: list[Happened] = []
        self.troubles: list[str] = []
        self._lock = threading.Lock()

    def run(self, report: Callable[[int], None] = lambda done: None) -> ActionAccount:
        """Inject the faults, wait until all is calm again, and account; `report` is told of the faults so far."""
        with ThreadPoolExecutor(_AT_ONCE, "fault") as pool:
            for turn in range(_MORE_PLANS):
                missing = self.plan.faults - len(self.happened)
                if missing < 1 or self.troubles:
                    break
                self._inject(
                    pool, planned(missing, self.plan.seed + turn, self.plan.every_s, self.plan.kinds), report
                )
        if missing := max(0, self.plan.faults - len(self.happened)):
            self.troubles.append(f"{missing} of {self.plan.faults} faults could not be injected")
        recovered = self._calm()
        self.troubles += [trouble for group in self.groups if (trouble := group.end())]
        killed = {robot: at for group in self.groups for robot, at in group.killed.items()}
        acts = [(group.number, act) for group in self.groups for act in group.acts()]
        return ActionAccount(
            acts,
            self.happened,
            self.plan.deadline_s,
            killed,
            recovered,
            len(self.groups),
            self.troubles,
            self._standstill.spans,
        )

    def _inject(
        self, pool: ThreadPoolExecutor, faults: Sequence[Fault], report: Callable[[int], None]
    ) -> None:
        """Each at its time, in a thread of its own; wait until all are over."""
        start, under_way = time.perf_counter(), []
        for fault in faults:
            time.sleep(max(0.0, start + fault.at_s - time.perf_counter()))
            under_way.append(pool.submit(self._carry_out, fault))
            report(len(self.happened))
        for each in under_way:
            each.result()

    def _carry_out(self, fault: Fault) -> None:
        began = time.perf_counter()
        try:
            groups = self._done(fault)
        except Exception as error:  # the account tells of it, whatever it is
            self.troubles.append(f"{fault.kind}: {error or type(error).__name__}")
            return
        if groups:
            happened = Happened(fault.kind, began, time.perf_counter(), frozenset(groups))
            with self._lock:
                self.happened.append(happened)

    def _done(self, fault: Fault) -> Sequence[int]:
        """Let it happen; the groups of robots that it befell, none if it could not happen."""
        group = self.groups[fault.place % len(self.groups)]
        link = group.link_for(fault.seed)
        match fault.kind:
            case "link cut":
                group.cut([link], fault.seconds)
            case "all links cut":
                group.cut(group.links, fault.seconds)
            case "robots killed":
                group.kill()
            case "replica killed":
                replicated = self.services[-1]
                return self._with(replicated) if replicated.kill_replica(fault.seed) else ()
            case "server frozen" | "server killed":
                service = self.services[fault.place % _PLAIN]
                if fault.kind == "server killed":
                    service.kill()
                else:
                    service.freeze(fault.seconds)
                return self._with(service)
            case _:
                prank = MessageFault(cast(PrankKind, fault.kind), fault.up, fault.seconds, fault.seed)
                if not group.prank(link, prank).wait(_UNPLAYED_S):
                    return ()
                time.sleep(fault.seconds)
        return [group.number]

    def _with(self, service: ServedAddress) -> list[int]:
        return [group.number for group in self.groups if service in group.services]

    def _calm(self) -> frozenset[int]:
        """Let robots act for a while without faults; the groups in which an action of that time was verified."""
        since = time.perf_counter()
        recovered: frozenset[int] = frozenset()
        while (calm_s := time.perf_counter() - since) < _LONGEST_CALM_S:
            if calm_s > _CALM_S and len(recovered) == len(self.groups):
                break
            time.sleep(0.5)
            recovered = frozenset(
                group.number
                for group in self.groups
                if any(act.outcome == "verified" and (act.began or 0.0) > since for act in group.acts())
            )
        return recovered


def services_of(pair: str, plan: ChaosPlan) -> list[ServedAddress]:
    """Two verifiers, and one of replicas where the plan says so."""
    cores = divided().cloud
    services = [plain_service(pair, cores) for _ in range(_PLAIN)]
    return [*services, replicated_service(pair, cores)] if plan.replicas else services


@contextmanager
def chaos_rig(
    services: Sequence[ServedAddress], recording: DraftRecording, plan: ChaosPlan
) -> Iterator[Chaos]:
    """Start the services, and groups of robots behind links to them; all end with the context.

    Args:
        services: two, and after them the one of replicas where the plan has it.
        recording: what the robots draft, and the reference.
        plan: what is run.

    Raises:
        ChildError: a service does not start.
    """
    cores = divided()
    groups: list[Group] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
        path = folder / "recording.json"
        recording.save(path)
        for service in services:
            stack.callback(service.stop)
        for service in reversed(services):  # Ray gives up where others take the processors from it meanwhile
            service.start()
        # Robots, links and whoever breaks them share the cores that the services do not have.
        stack.enter_context(on(cores.edge))
        orders = FleetOrders(
            str(path),
            "",
            "",
            plan.ways,
            robots=plan.robots,
            rate=plan.rate,
            seconds=_FOR_EVER_S,
            grace_s=plan.deadline_s + _GRACE_S,
            deadline_s=plan.deadline_s,
            fallback=True,
            connect=False,
            seed=plan.seed,
        )
        for number, preferred in enumerate(_preferences(services, plan)):
            group = Group(number, preferred, LinkProfile(rtt_ms=plan.rtt_ms), orders, folder, cores.edge)
            stack.callback(group.end)
            group.start()
            groups.append(group)
        yield Chaos(plan, services, groups, stack.enter_context(Standstill(folder / "beats")))


def _preferences(services: Sequence[ServedAddress], plan: ChaosPlan) -> list[list[ServedAddress]]:
    """Services by group: both, the other way round, only the first, and so on; and one group on the replicas."""
    first, second = services[:_PLAIN]
    kinds = [[first, second], [second, first], [first]]
    chosen = [kinds[number % len(kinds)] for number in range(plan.groups)]
    return [*chosen, [services[-1]]] if plan.replicas else chosen
