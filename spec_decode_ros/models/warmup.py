"""Getting a loaded model and its process ready: the slow first passes, pass times, and the threads of the interpreter."""

from __future__ import annotations

import gc
import io
import itertools
import logging
import statistics
import sys
import time
from typing import NamedTuple

from PIL import Image

from spec_decode_ros.decoding.controller import CONSTANTS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import GREEDY, Drafter, Verifier

_log = logging.getLogger(__name__)

_PROMPT = "stop | last none"
_SIZE = (384, 192)
_TOKENS = 6
_WIDE = 32
_SWITCH_S = 0.0005


class PassTiming(NamedTuple):
    """Milliseconds that passes of a model take; 0: unknown.

    Attributes:
        token_ms: a pass over one token.
        per_token_ms: each further one in a pass of the target.
        prefill_ms: before a draft's first token.
        few_ms: each of the first few further ones in a pass of the target.
    """

    token_ms: float = 0.0
    per_token_ms: float = 0.0
    prefill_ms: float = 0.0
    few_ms: float = 0.0


UNKNOWN = PassTiming()


def warm_up(model: Drafter | Verifier) -> PassTiming:
    """Let `model` answer once about a grey frame, or without one if it takes text only; medians of the times."""
    with io.BytesIO() as frame:
        Image.new("RGB", _SIZE, (120, 120, 120)).save(frame, "JPEG")
        jpeg = frame.getvalue()
    for images in ([jpeg], []):
        try:
            return _time_target(model, images) if isinstance(model, Verifier) else _time_draft(model, images)
        except SpecDecodeError as error:
            _log.debug("no warm-up with %d images: %s", len(images), error)
    return UNKNOWN


def _time_target(model: Verifier, images: list[bytes]) -> PassTiming:
    session = model.prepare(_PROMPT, images)
    token = session.verify((), (), GREEDY)
    session.verify(token, token * _WIDE, GREEDY)
    few = CONSTANTS.few_tokens
    taken: dict[int, list[float]] = {0: [], few: [], _WIDE: []}
    for count in range(1, _TOKENS + 1):
        for drafted, times in taken.items():
            start = time.perf_counter()
            session.verify(token * count, token * drafted, GREEDY)
            times.append((time.perf_counter() - start) * 1000.0)
    session.close()
    step_ms, few_ms, wide_ms = (statistics.median(times) for times in taken.values())
    per_token_ms, per_few_ms = max(0.0, wide_ms - step_ms) / _WIDE, max(0.0, few_ms - step_ms) / few
    return PassTiming(step_ms, per_token_ms, few_ms=per_few_ms)


def _time_draft(model: Drafter, images: list[bytes]) -> PassTiming:
    times: list[float] = []
    # A token that begins no text of a grammar, so that none is forced, which would take no time.
    begin = [next(token for token in itertools.count() if token not in model.eos_ids)]
    for _ in range(2):  # the second time it is warm
        at = [time.perf_counter()]
        session = model.open(_PROMPT, images)
        at += [time.perf_counter() for _ in itertools.islice(session.draft(begin, GREEDY), _TOKENS)]
        session.close()
        times = [(after - before) * 1000.0 for before, after in itertools.pairwise(at)]
    single = times[1:]  # the first has the prompt
    return PassTiming(statistics.median(single) if single else 0.0, prefill_ms=times[0] if times else 0.0)


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
