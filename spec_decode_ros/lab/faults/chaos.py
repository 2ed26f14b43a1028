"""A chaos run: faults of services, links, robots and messages at their times, and the account of all actions."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.recording import DraftRecording
from spec_decode_ros.lab.bench.fleet.robots import FleetOrders
from spec_decode_ros.lab.bench.machine import pinned_to, split_cores
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.lab.faults.action_account import ActionAccount, InjectedFault
from spec_decode_ros.lab.faults.fault_plan import KINDS, Fault, FaultKind, planned
from spec_decode_ros.lab.faults.robot_groups import RobotGroup
from spec_decode_ros.lab.faults.services import RestartableService, plain_service, replicated_service
from spec_decode_ros.lab.faults.stalls import StallDetector
from spec_decode_ros.lab.network.link import LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFault, MessageFaultKind

_PLAIN = 2
"""Services that are one process each, and are killed whole; of the replicated one only replicas are killed."""

_AT_ONCE = 64
"""Most faults at the same time."""

_NOT_APPLIED_S = 10.0
_CALM_S, _LONGEST_CALM_S = 2.0, 60.0
_FOR_EVER_S = 1e6
_GRACE_S = 3.0
_MORE_PLANS = 5


@dataclass(frozen=True)
class ChaosPlan:
    """What is run: faults, one every `every_s` seconds on average, and groups of robots behind links of their own.

    The robots take the variants in turns, `rate` actions per second; after `deadline_s` an answer is unverified. With
    `replicas` there is also a service of replicas under Ray, with a group of robots.
    """

    variants: tuple[MethodVariant, ...]
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


@dataclass
class ChaosRun:
    """Everything that runs; see :func:`chaos_rig`."""

    plan: ChaosPlan
    services: Sequence[RestartableService]
    groups: Sequence[RobotGroup]
    stalls: StallDetector
    _injected: list[InjectedFault] = field(default_factory=list)
    _troubles: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, report: Callable[[int], None] = lambda done: None) -> ActionAccount:
        """Inject the faults, wait until robots are served again, and account; `report` gets the number of faults so far."""
        plan, injected, troubles = self.plan, self._injected, self._troubles
        with ThreadPoolExecutor(_AT_ONCE, "fault") as pool:
            for turn in range(_MORE_PLANS):
                missing = plan.faults - len(injected)
                if missing < 1 or troubles:
                    break
                self._inject(pool, planned(missing, plan.seed + turn, plan.every_s, plan.kinds), report)
        if missing := max(0, plan.faults - len(injected)):
            troubles.append(f"{missing} of {plan.faults} faults could not be injected")
        recovered = self._wait_recovered()
        troubles += [trouble for group in self.groups if (trouble := group.end())]
        troubles += [abort for service in self.services for abort in service.aborts]
        killed = {robot: at for group in self.groups for robot, at in group.killed.items()}
        acts = [(group.number, act) for group in self.groups for act in group.acts()]
        return ActionAccount(
            acts, injected, plan.deadline_s, killed, recovered, len(self.groups), troubles, self.stalls.spans
        )

    def _inject(
        self, pool: ThreadPoolExecutor, faults: Sequence[Fault], report: Callable[[int], None]
    ) -> None:
        """Inject each at its time, in a thread of its own, and wait until all are over."""
        start, running = time.perf_counter(), []
        for fault in faults:
            time.sleep(max(0.0, start + fault.at_s - time.perf_counter()))
            running.append(pool.submit(self._carry_out, fault))
            report(len(self._injected))
        for each in running:
            each.result()

    def _carry_out(self, fault: Fault) -> None:
        began = time.perf_counter()
        try:
            groups = self._apply(fault)
        except Exception as error:  # whatever it is, it goes into the account
            self._troubles.append(f"{fault.kind}: {error or type(error).__name__}")
            return
        if groups:
            injected = InjectedFault(fault.kind, began, time.perf_counter(), frozenset(groups))
            with self._lock:
                self._injected.append(injected)

    def _apply(self, fault: Fault) -> Sequence[int]:
        """Apply a fault; returns the groups of robots that it hit, none if it was not possible."""
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
                return self._users_of(replicated) if replicated.kill_replica(fault.seed) else ()
            case "server frozen" | "server killed" | "socket killed":
                service = self.services[fault.place % _PLAIN]
                if fault.kind == "server killed":
                    service.kill()
                elif fault.kind == "socket killed":
                    return self._users_of(service) if service.kill_socket() else ()
                else:
                    service.freeze(fault.seconds)
                return self._users_of(service)
            case _:
                kind = cast(MessageFaultKind, fault.kind)
                applied = group.schedule(link, MessageFault(kind, fault.up, fault.seconds, fault.seed))
                if not applied.wait(_NOT_APPLIED_S):
                    return ()
                time.sleep(fault.seconds)
        return [group.number]

    def _users_of(self, service: RestartableService) -> list[int]:
        return [group.number for group in self.groups if service in group.services]

    def _wait_recovered(self) -> frozenset[int]:
        """Let robots act for a while without faults; returns the groups in which such an action was verified."""
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


def services_of(pair: str, plan: ChaosPlan) -> list[RestartableService]:
    """Two verifiers, and one of replicas where the plan says so."""
    cores = split_cores().cloud
    services = [plain_service(pair, cores) for _ in range(_PLAIN)]
    return [*services, replicated_service(pair, cores)] if plan.replicas else services


@contextmanager
def chaos_rig(
    services: Sequence[RestartableService], recording: DraftRecording, plan: ChaosPlan
) -> Iterator[ChaosRun]:
    """Start the services (see `services_of`), and groups of robots behind links to them; all end with the context.

    Raises ChildError if a service does not start.
    """
    cores = split_cores()
    groups: list[RobotGroup] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
        path = folder / "recording.json"
        recording.save(path)
        for service in services:
            stack.callback(service.stop)
        for service in reversed(services):  # first the replicas: Ray gives up on a busy machine
            service.start()
        # Robots, links and the threads that inject faults share the cores that the services do not have.
        stack.enter_context(pinned_to(cores.edge))
        orders = FleetOrders(
            str(path),
            "",
            "",
            plan.variants,
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
            profile = LinkProfile(rtt_ms=plan.rtt_ms)
            group = RobotGroup(number, preferred, profile, orders, folder, cores.edge)
            stack.callback(group.end)
            group.start()
            groups.append(group)
        yield ChaosRun(plan, services, groups, stack.enter_context(StallDetector(folder / "beats")))


def _preferences(services: Sequence[RestartableService], plan: ChaosPlan) -> list[list[RestartableService]]:
    """Services by group: both, both in reverse, only the first, and so on; and one group on the replicas."""
    first, second = services[:_PLAIN]
    kinds = [[first, second], [second, first], [first]]
    chosen = [kinds[number % len(kinds)] for number in range(plan.groups)]
    return [*chosen, [services[-1]]] if plan.replicas else chosen
