"""One loaded random checkpoint of a supported family, with transformers' own answers to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tiny_checkpoints
import transformers_reference

from spec_decode_ros.models.batch_decoder import BatchDecoder
from spec_decode_ros.models.hf_model import HfSide
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig
from spec_decode_ros.models.verifier import HfVerifier

PROMPTS = (
    "go to the red chair | last vx 0.4 wz -0.6 | blue box left 2.5",
    "find the blue box",
    "stop",
    "turn left 90 degrees please",
)


@dataclass(frozen=True)
class Family:
    """One loaded random checkpoint."""

    name: str
    path: Path
    verifier: HfVerifier

    @property
    def sees(self) -> bool:
        return self.name != "llama"

    def images(self, seed: int = 1) -> list[bytes]:
        return [tiny_checkpoints.jpeg(seed)] if self.sees else []

    def reference(self, prompt: str, images: list[bytes], count: int) -> list[int]:
        """transformers' own greedy answer."""
        return transformers_reference.generate(self.name, self.path, prompt, images, count)


def pair_of(draft: Path, target: Path | None = None) -> PairConfig:
    """A pair on the CPU."""
    sides = [ModelConfig(location=str(path), device="cpu") for path in (draft, target or draft)]
    return PairConfig(name="random", draft=sides[0], target=sides[1])


@contextmanager
def reserved(side: HfSide, sessions: int, tokens: int) -> Iterator[None]:
    """With memory for so many sessions, where the decoder has slots; none reserves nothing."""
    model = side.model
    if not sessions or not isinstance(model.decoder, BatchDecoder):
        yield
        return
    before = model.context, model.decoder.pool
    side.reserve(sessions, tokens)
    try:
        yield
    finally:
        model.context, model.decoder.pool = before
