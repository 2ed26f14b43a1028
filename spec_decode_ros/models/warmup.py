"""The first pass of a model is slow (kernels are chosen, memory is claimed): make it before anybody waits."""

from __future__ import annotations

import io
import itertools
import logging
import statistics
import time
from typing import NamedTuple

from spec_decode_ros.decoding.controller import CONSTANTS
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, Verifier

_log = logging.getLogger(__name__)

_PROMPT = "stop | last none"
_SIZE = (384, 192)
_TOKENS = 6
_WIDE = 32


def _frame() -> bytes:
    from PIL import Image

    with io.BytesIO() as out:
        Image.new("RGB", _SIZE, (120, 120, 120)).save(out, "JPEG")
        return out.getvalue()


class PassTiming(NamedTuple):
    """Milliseconds; 0: unknown.

    Attributes:
        token_ms: one more token.
        per_token_ms: each further one in a pass of the target.
        prefill_ms: what comes before a draft's first.
        few_ms: each of the first few further ones in a pass of the target.
    """

    token_ms: float = 0.0
    per_token_ms: float = 0.0
    prefill_ms: float = 0.0
    few_ms: float = 0.0


UNKNOWN = PassTiming()


def warm_up(model: Drafter | Verifier) -> PassTiming:
    """Let `model` answer once about a grey frame, or about nothing if it takes text only; medians of what it took."""
    for images in ([_frame()], []):
        try:
            return _target_pace(model, images) if isinstance(model, Verifier) else _draft_pace(model, images)
        except SpecDecodeError as error:
            _log.debug("no warm-up with %d images: %s", len(images), error)
    return UNKNOWN


def _target_pace(model: Verifier, images: list[bytes]) -> PassTiming:
    session = model.prepare(_PROMPT, images)
    token = session.verify((), (), Sampling())
    session.verify(token, token * _WIDE, Sampling())
    taken: dict[int, list[float]] = {0: [], CONSTANTS.few_tokens: [], _WIDE: []}
    for count in range(1, _TOKENS + 1):
        for drafted, times in taken.items():
            start = time.perf_counter()
            session.verify(token * count, token * drafted, Sampling())
            times.append((time.perf_counter() - start) * 1000.0)
    session.close()
    step_ms, few_ms, wide_ms = (statistics.median(times) for times in taken.values())
    few_ms = max(step_ms, few_ms)
    return PassTiming(
        step_ms,
        max(0.0, wide_ms - step_ms) / _WIDE,
        few_ms=(few_ms - step_ms) / CONSTANTS.few_tokens,
    )


def _draft_pace(model: Drafter, images: list[bytes]) -> PassTiming:
    times: list[float] = []
    for _ in range(2):  # the second time it is warm
        at = [time.perf_counter()]
        session = model.open(_PROMPT, images)
        at += [time.perf_counter() for _ in itertools.islice(session.draft((), Sampling()), _TOKENS)]
        session.close()
        times = [(after - before) * 1000.0 for before, after in itertools.pairwise(at)]
    single = times[1:]  # the first has the prompt
    return PassTiming(statistics.median(single) if single else 0.0, prefill_ms=times[0] if times else 0.0)
