"""How Python shares one interpreter among the threads of a process."""

from __future__ import annotations

import gc
import sys

_SWITCH_S = 0.0005


def be_responsive() -> None:
    """Let no thread keep the others waiting: call it in a process that drafts or verifies, once its models are loaded.

    A thread that computes may keep the interpreter for 5 ms while others wait, by Python's default; a draft token
    takes 1 ms. Half a millisecond costs no measurable compute.

    And the garbage collector holds up all threads for 0.2 s now and then (measured on one core), while it looks for cycles
    among the 370,000 objects that the model libraries consist of. What is there when this is called stays for
    good, so it is not looked at any more.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
