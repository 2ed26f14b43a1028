"""The account of a chaos run: an outcome for every action, and whether that is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from spec_decode_ros.lab.bench.fleet.log import LoggedAction
from spec_decode_ros.lab.faults.fault_plan import KINDS, FaultKind
from spec_decode_ros.lab.faults.stalls import Span, overlap_s

ActionOutcome = Literal[
    "verified", "unverified", "refused", "lost with its robot", "wrong", "stuck", "crashed", "not started"
]
ACTION_OUTCOMES: tuple[ActionOutcome, ...] = get_args(ActionOutcome)
FORBIDDEN: frozenset[ActionOutcome] = frozenset({"wrong", "stuck", "crashed"})

SLACK_S = 2.0
"""How long after its deadline an action may end, on a busy machine."""

_AFTERWARDS_S = 1.0
_MOST_OFFENDERS = 50


@dataclass(frozen=True)
class InjectedFault:
    """A fault that was injected: start and end on the clock of the actions, and the groups of robots that it hit."""

    kind: FaultKind
    began: float
    ended: float
    groups: frozenset[int]

    def may_have_met(self, group: int, act: LoggedAction) -> bool:
        """Whether an action of a group was running during the fault, or began shortly after it."""
        if group not in self.groups or act.began is None:
            return False
        ended = act.ended if act.ended is not None else self.ended
        return act.began <= self.ended + _AFTERWARDS_S and ended >= self.began


def action_outcome(
    act: LoggedAction, deadline_s: float, killed: Mapping[int, float], stalls: Sequence[Span] = ()
) -> ActionOutcome:
    """The outcome of an action; `killed` has the time at which each killed robot was. Stalls of the machine do not count."""
    if act.outcome == "not started":
        return "not started"
    if act.outcome is None:
        at = killed.get(act.robot)
        # An action that was overdue when its robot was killed was stuck already.
        in_time = at is not None and act.began is not None and at - act.began <= deadline_s + SLACK_S
        return "lost with its robot" if in_time else "stuck"
    if act.outcome == "cut off" or act.ended is None or act.began is None:
        return "stuck"
    if act.ended - act.began - overlap_s(act.began, act.ended, stalls) > deadline_s + SLACK_S:
        return "stuck"
    return "wrong" if act.outcome == "verified" and not act.same else act.outcome


@dataclass(frozen=True)
class ActionAccount:
    """All actions of a run, each with its group of robots, and all faults that were injected.

    `killed` has the robots that were killed, and when; `recovered` the groups, out of `groups`, in which an action was
    verified after the last fault; `troubles` what else went wrong, such as a server that did not start again.
    """

    acts: Sequence[tuple[int, LoggedAction]]
    faults: Sequence[InjectedFault]
    deadline_s: float
    killed: Mapping[int, float]
    recovered: frozenset[int]
    groups: int
    troubles: Sequence[str] = ()
    stalls: Sequence[Span] = ()

    @cached_property
    def outcomes(self) -> list[tuple[int, LoggedAction, ActionOutcome]]:
        """On every action, with its group."""
        return [
            (group, act, action_outcome(act, self.deadline_s, self.killed, self.stalls))
            for group, act in self.acts
        ]

    def during(self, kind: FaultKind) -> Counter[ActionOutcome]:
        """Verdicts on the actions that a fault of this kind may have met."""
        faults = [fault for fault in self.faults if fault.kind == kind]
        return Counter(
            found
            for group, act, found in self.outcomes
            if any(fault.may_have_met(group, act) for fault in faults)
        )

    @property
    def wrongs(self) -> list[str]:
        """What must not have happened, in sentences."""
        counts = Counter(found for _, _, found in self.outcomes)
        wrongs = [
            f"{counts[name]} actions {name}" for name in ACTION_OUTCOMES if name in FORBIDDEN and counts[name]
        ]
        wrongs += sorted({act.sentence for _, act, found in self.outcomes if found == "crashed"})
        lost = sorted(set(range(self.groups)) - self.recovered)
        if lost:
            wrongs.append(f"no action was verified after the last fault in the groups {lost}")
        if not counts["verified"]:
            wrongs.append("no action was verified at all")
        return [*wrongs, *self.troubles]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        outcomes = self.outcomes
        times = [(act.ended - act.began, found) for _, act, found in outcomes if act.ended and act.began]
        slowest_s, slowest_outcome = max(times, default=(0.0, None))
        kinds = Counter(fault.kind for fault in self.faults)
        refused = Counter(act.sentence for _, act, found in outcomes if found == "refused")
        offenders = [
            {"group": group, "outcome": found, **asdict(act)}
            for group, act, found in outcomes
            if found in FORBIDDEN
        ]
        return {
            "faults": len(self.faults),
            "faults_by_kind": dict(kinds.most_common()),
            "actions": len(outcomes),
            "actions_by_outcome": dict(Counter(found for _, _, found in outcomes).most_common()),
            "outcomes_by_fault": {kind: dict(self.during(kind)) for kind in KINDS if kinds[kind]},
            "slowest_s": slowest_s,
            "slowest_outcome": slowest_outcome,
            "deadline_s": self.deadline_s,
            "why_refused": dict(refused.most_common(8)),
            "standstills": len(self.stalls),
            "longest_standstill_s": max((until - since for since, until in self.stalls), default=0.0),
            "offenders": offenders[:_MOST_OFFENDERS],
            "wrongs": self.wrongs,
            "passed": not self.wrongs,
        }
