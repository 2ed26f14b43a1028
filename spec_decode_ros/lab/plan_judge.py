"""Sentences with the plans that are expected of them, and the judge of what a planner made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spec_decode_ros.actions.plan import STOP, Plan, PlanError, parse_plan
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.text_file import read_text

if TYPE_CHECKING:
    from spec_decode_ros.edge.planner import Planned

ARROW = " => "
HELD_OUT_PLANS = Path("config/instructions/held_out_plans.txt")
"""Sentences that no planner was trained on, in the project's folder."""


class ExpectedPlan(NamedTuple):
    """A sentence and the plan that is right for it; of one without steps the reason does not matter."""

    sentence: str
    plan: Plan

    @property
    def kind(self) -> str:
        """`1 step`, `2 steps` and so on, `stop`, `refused` or `not understood`."""
        if self.plan.steps == (STOP,):
            return STOP.text
        count = len(self.plan.steps)
        return f"{count} step{'s' if count > 1 else ''}" if count else self.plan.outcome

    def is_met_by(self, plan: Plan | None) -> bool:
        """Whether a plan is right in every step; None is a text that is no plan."""
        return plan is not None and (plan.steps, plan.outcome) == (self.plan.steps, self.plan.outcome)


def read_expected(path: str | Path) -> list[ExpectedPlan]:
    """What a file expects, one `sentence => plan` a line; lines that begin with # are comments. Raises SpecDecodeError."""
    lines = (line.strip() for line in read_text(path, "sentences").splitlines())
    found = [_expected(line, path) for line in lines if line and not line.startswith("#")]
    if not found:
        raise SpecDecodeError(
            f"{path} has no sentence: write one a line, such as 'have a seat{ARROW}sit down'"
        )
    return found


def _expected(line: str, path: str | Path) -> ExpectedPlan:
    sentence, arrow, plan = line.rpartition(ARROW)
    if not arrow or not sentence.strip():
        raise SpecDecodeError(f"{line!r} in {path} is not of the form 'have a seat{ARROW}sit down'")
    try:
        return ExpectedPlan(sentence.strip(), parse_plan(plan))
    except PlanError as error:
        raise SpecDecodeError(f"what {line!r} in {path} expects is not a plan: {error}") from error


def judge(expected: Sequence[ExpectedPlan], planned: Sequence[Planned]) -> dict[str, Any]:
    """Shares of right plans, all and by kind, and of sentences that must not move the robot and did not; for JSON."""
    rows = [_row(wanted, found) for wanted, found in zip(expected, planned, strict=True)]
    still = [row for wanted, row in zip(expected, rows, strict=True) if not wanted.plan.moves]
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (not kind[0].isdigit(), kind))
    return {
        **_share(rows, "right"),
        "by_kind": {kind: _share([row for row in rows if row["kind"] == kind], "right") for kind in kinds},
        "must_not_move": _share(still, "still"),
        "rows": rows,
    }


def _row(wanted: ExpectedPlan, found: Planned) -> dict[str, Any]:
    return {
        "sentence": wanted.sentence,
        "kind": wanted.kind,
        "expected": wanted.plan.text,
        "text": found.result.text,
        "problem": found.problem,
        "right": wanted.is_met_by(found.plan),
        "still": found.plan is None or not found.plan.moves,
        "stats": found.result.stats,
    }


def _share(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    count = sum(row[name] for row in rows)
    return {"sentences": len(rows), name: count, f"{name}_share": count / len(rows) if rows else None}
