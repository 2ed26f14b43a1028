"""What became of every action while faults came, and whether that is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from spec_decode_ros.lab.bench.fleet_log import Act
from spec_decode_ros.lab.faults.fault_plan import KINDS, FaultKind
from spec_decode_ros.lab.faults.standstill import Span, overlap_s

Verdict = Literal[
    "verified", "unverified", "refused", "lost with its robot", "wrong", "stuck", "crashed", "not started"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FORBIDDEN: frozenset[Verdict] = frozenset({"wrong", "stuck", "crashed"})

SLACK_S = 2.0
"""So long after its deadline an action may still be ending, on a machine that is busy being broken."""

_AFTERWARDS_S = 1.0
_MOST_OFFENDERS = 50


@dataclass(frozen=True)
class Happened:
    """A fault that was injected: from when to when, on the clock of the actions, and to which groups of robots."""

    kind: FaultKind
    began: float
    ended: float
    groups: frozenset[int]


def verdict(
    act: Act, deadline_s: float, killed: Mapping[int, float], standstills: Sequence[Span] = ()
) -> Verdict:
    """What became of an action; `killed` are the robots that were, and when. A machine's standstill is nobody's time."""
    if act.outcome is None:
        at = killed.get(act.robot)
        # What had been going on for too long by then was stuck already.
        in_time = at is not None and act.began is not None and at - act.began <= deadline_s + SLACK_S
        return "lost with its robot" if in_time else "stuck"
    if act.outcome == "cut off":
        return "stuck"
    if act.outcome == "not started":
        return "not started"
    if act.ended is None or act.began is None:
        return "stuck"
    if act.ended - act.began - overlap_s(act.began, act.ended, standstills) > deadline_s + SLACK_S:
        return "stuck"
    if act.outcome == "verified":
        return "verified" if act.same else "wrong"
    return act.outcome


@dataclass(frozen=True)
class ActionAccount:
    """All actions and all faults of a run.

    Attributes:
        acts: with the group of robots that each belongs to.
        faults: those that were injected.
        deadline_s: longest action.
        killed: which robots were killed, and when.
        recovered: groups in which an action was verified after the last fault.
        groups: how many there were.
        troubles: what else went wrong, such as a server that did not start again.
        standstills: of the machine.
    """

    acts: Sequence[tuple[int, Act]]
    faults: Sequence[Happened]
    deadline_s: float
    killed: Mapping[int, float]
    recovered: frozenset[int]
    groups: int
    troubles: Sequence[str] = ()
    standstills: Sequence[Span] = ()

    @property
    def verdicts(self) -> list[tuple[int, Act, Verdict]]:
        """Of every action."""
        return [
            (group, act, verdict(act, self.deadline_s, self.killed, self.standstills))
            for group, act in self.acts
        ]

    def during(self, kind: FaultKind) -> Counter[Verdict]:
        """What became of the actions that a fault of this kind may have met."""
        faults = [fault for fault in self.faults if fault.kind == kind]
        return Counter(
            told for group, act, told in self.verdicts if any(_met(group, act, fault) for fault in faults)
        )

    @property
    def wrongs(self) -> list[str]:
        """What must not be, in sentences."""
        counts = Counter(told for _, _, told in self.verdicts)
        found = [f"{counts[told]} actions {told}" for told in VERDICTS if told in FORBIDDEN and counts[told]]
        found += sorted({act.sentence for _, act, told in self.verdicts if told == "crashed"})
        lost = sorted(set(range(self.groups)) - self.recovered)
        if lost:
            found.append(f"no action was verified after the last fault in the groups {lost}")
        if not counts["verified"]:
            found.append("no action was verified at all")
        return [*found, *self.troubles]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        verdicts = self.verdicts
        spans = [(act.ended - act.began, told) for _, act, told in verdicts if act.ended and act.began]
        slowest = max(spans, default=(0.0, None))
        return {
            "faults": len(self.faults),
            "faults_by_kind": _counted(fault.kind for fault in self.faults),
            "actions": len(verdicts),
            "actions_by_verdict": _counted(told for _, _, told in verdicts),
            "verdicts_by_fault": {
                kind: dict(self.during(kind)) for kind in KINDS if any(f.kind == kind for f in self.faults)
            },
            "slowest_s": slowest[0],
            "slowest_verdict": slowest[1],
            "deadline_s": self.deadline_s,
            "why_refused": dict(
                Counter(act.sentence for _, act, told in verdicts if told == "refused").most_common(8)
            ),
            "standstills": len(self.standstills),
            "longest_standstill_s": max((until - since for since, until in self.standstills), default=0.0),
            "offenders": [
                {"group": group, "verdict": told, **asdict(act)}
                for group, act, told in verdicts
                if told in FORBIDDEN
            ][:_MOST_OFFENDERS],
            "wrongs": self.wrongs,
            "passed": not self.wrongs,
        }


def _met(group: int, act: Act, fault: Happened) -> bool:
    if group not in fault.groups or act.began is None:
        return False
    ended = act.ended if act.ended is not None else fault.ended
    return act.began <= fault.ended + _AFTERWARDS_S and ended >= fault.began


def _counted(things: Iterable[str]) -> dict[str, int]:
    return dict(Counter(things).most_common())
