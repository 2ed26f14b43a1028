"""Which decoder runs a model."""

from __future__ import annotations

from typing import Any

from spec_decode_ros.models.decoder import NOBODY, AfterLayer, Decoder
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.small_decoder import SmallDecoder
from spec_decode_ros.models.transformers_decoder import TransformersDecoder

__all__ = [
    "NOBODY",
    "AfterLayer",
    "Decoder",
    "PackedDecoder",
    "SmallDecoder",
    "TransformersDecoder",
    "decoder_for",
]


def decoder_for(module: Any) -> Decoder:
    """The fastest way to run `module` here."""
    if SmallDecoder.fits(module):
        return SmallDecoder(module)
    return PackedDecoder.of(module) or TransformersDecoder(module)
