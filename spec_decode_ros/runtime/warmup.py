"""The first pass of a model is slow (kernels are chosen, memory is claimed): make it before anybody waits."""

from __future__ import annotations

import io
import itertools
import logging

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, Verifier

_log = logging.getLogger(__name__)

_PROMPT = "stop | last none"
_SIZE = (384, 192)


def _frame() -> bytes:
    from PIL import Image

    with io.BytesIO() as out:
        Image.new("RGB", _SIZE, (120, 120, 120)).save(out, "JPEG")
        return out.getvalue()


def warm_up(model: Drafter | Verifier) -> None:
    """Let `model` answer once about a grey frame, or about nothing if it takes text only."""
    for images in ([_frame()], []):
        try:
            _answer_once(model, images)
            return
        except SpecDecodeError as error:
            _log.debug("no warm-up with %d images: %s", len(images), error)


def _answer_once(model: Drafter | Verifier, images: list[bytes]) -> None:
    if isinstance(model, Verifier):
        verifying = model.prepare(_PROMPT, images)
        draft = verifying.verify((), (), Sampling())
        verifying.verify(draft, draft * 4, Sampling())
        verifying.close()
    else:
        drafting = model.open(_PROMPT, images)
        for _ in itertools.islice(drafting.draft((), Sampling()), 4):
            pass
        drafting.close()
