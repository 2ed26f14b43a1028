"""Whether a plan's amounts were said: a language model may copy `three quarters of a metre` as 0.675.

The sentence is read generously, so that no right plan is lost, whatever the operator's way with numbers; what no reading of
it gives is a mistake.
"""

from __future__ import annotations

import re

from spec_decode_ros.actions.plan import Plan
from spec_decode_ros.actions.quantities import numbers_in

_NEEDS_NO_NUMBER = {"turn": (45.0, 90.0, 180.0, 270.0, 360.0), "walk": (1.0,)}
"""`turn right`, `about face`, `a bit forward`."""

_CIRCLE = (1.0, 90.0, 180.0, 360.0)
"""Degrees, and quarters, halves and whole circles, as degrees."""

_LENGTHS = (("", 1.0), ("cm|cent", 0.01), ("mm|mill", 0.001), ("foot|feet|ft", 0.3), ("yard|yd", 0.9))
"""Units, as they begin, and their metres; metres need not be named."""

_MARKS = re.compile(r"[^\w\s.,/°]|[.,/](?![0-9])")
_PARTS = ((re.compile(r"\bhalf|½"), (0.5,)), (re.compile(r"\bquarters?\b|¼|¾"), (0.25, 0.75)))
_COLLECTIVE = (
    (re.compile(r"\b(?:couple|pair|twice)\b"), 2.0),
    (re.compile(r"\b(?:few|thrice)\b"), 3.0),
    (re.compile(r"\bdozen\b"), 12.0),
)


def unsaid_amount(plan: Plan, sentence: str) -> str:
    """The first step of a plan whose amount the sentence does not say, as its text; empty if there is none."""
    sentence = sentence.lower()
    said = _said(sentence)
    lengths = [metres for unit, metres in _LENGTHS if re.search(rf"(?<![a-z])(?:{unit})", sentence)]
    factors = {"turn": _CIRCLE, "walk": lengths}
    for step in plan.steps:
        if step.kind not in factors:
            continue
        values = {
            *_NEEDS_NO_NUMBER[step.kind],
            *(each * factor for each in said for factor in factors[step.kind]),
        }
        if not any(abs(abs(step.amount) - value) < 0.006 for value in values):
            return step.text
    return ""


def _said(sentence: str) -> set[float]:
    """Every number that some reading of a sentence gives, without units."""
    plain = _MARKS.sub(" ", sentence.replace("&", " and "))
    whole = [1.0, *numbers_in(plain)]
    whole += [value for pattern, value in _COLLECTIVE if pattern.search(sentence)]
    parts = [part for pattern, values in _PARTS if pattern.search(sentence) for part in values]
    return {*whole, *parts, *(number + part for number in whole for part in parts)}
