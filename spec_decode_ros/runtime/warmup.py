"""The first pass of a model is slow (kernels are chosen, memory is claimed): make it before anybody waits."""

from __future__ import annotations

import io
import itertools
import logging
import statistics
import time

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, Verifier

_log = logging.getLogger(__name__)

_PROMPT = "stop | last none"
_SIZE = (384, 192)
_TOKENS = 6


def _frame() -> bytes:
    from PIL import Image

    with io.BytesIO() as out:
        Image.new("RGB", _SIZE, (120, 120, 120)).save(out, "JPEG")
        return out.getvalue()


def warm_up(model: Drafter | Verifier) -> float:
    """Let `model` answer once about a grey frame, or about nothing if it takes text only.

    Returns:
        milliseconds of one more token: a draft model's, or a target's pass over one (median); 0 if it took none.
    """
    for images in ([_frame()], []):
        try:
            times = _times_of(model, images)
        except SpecDecodeError as error:
            _log.debug("no warm-up with %d images: %s", len(images), error)
        else:
            return statistics.median(times[1:]) * 1000.0 if len(times) > 1 else 0.0
    return 0.0


def _times_of(model: Drafter | Verifier, images: list[bytes]) -> list[float]:
    """Seconds of single tokens, the first with the prompt."""
    times = []
    if isinstance(model, Verifier):
        verifying = model.prepare(_PROMPT, images)
        token = verifying.verify((), (), Sampling())
        verifying.verify(token, token * 4, Sampling())
        for count in range(1, _TOKENS + 1):
            start = time.perf_counter()
            verifying.verify(token * count, (), Sampling())
            times.append(time.perf_counter() - start)
        verifying.close()
    else:
        drafting = model.open(_PROMPT, images)
        start = time.perf_counter()
        for _ in itertools.islice(drafting.draft((), Sampling()), _TOKENS):
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
        drafting.close()
    return times
