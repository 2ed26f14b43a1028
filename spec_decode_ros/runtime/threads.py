"""How Python shares one interpreter among the threads of a process."""

from __future__ import annotations

import sys

_SWITCH_S = 0.0005


def be_responsive() -> None:
    """Let messages interrupt a model quickly: call it once in a process that drafts or verifies.

    A thread that computes may keep the interpreter for 5 ms while others wait, by Python's default; a draft token
    takes 1 ms. Half a millisecond costs no measurable compute.
    """
    sys.setswitchinterval(_SWITCH_S)
