"""Where one pass over many tokens chooses otherwise than many passes over one.

In float32 it does not. In half precision the two round differently, and a near tie between two tokens can fall the
other way: a *flip*. Counting them, with the distance that the two tokens had, shows whether they were ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spec_decode_ros.models.answer import CachedSequence

if TYPE_CHECKING:
    from spec_decode_ros.models.verifier import HfVerifier


@dataclass(frozen=True)
class Flip:
    """One position at which the choice depends on the width of the pass.

    Attributes:
        position: of the answer token, from 0.
        alone: choice of a pass over one token.
        together: choice of the pass over all tokens.
        gap: by how much the logit of `alone` exceeded that of `together` in the pass over one token.
    """

    position: int
    alone: int
    together: int
    gap: float


def find_flips(
    verifier: HfVerifier, prompt: str, images: Sequence[bytes] = (), count: int = 32
) -> tuple[int, list[Flip]]:
    """Write a greedy answer of at most `count` tokens one by one, then judge it in one pass.

    Returns how many tokens were compared, and the flips among them.
    """
    model = verifier.model
    prepared = model.prepare(prompt, images)
    alone = CachedSequence(model, prepared)
    tokens: list[int] = []
    rows = []
    while len(tokens) < count and not (tokens and tokens[-1] in verifier.eos_ids):
        rows.append(alone.logits(tokens, 1)[0])
        tokens.append(int(rows[-1].argmax()))
    together = CachedSequence(model, prepared).logits(tokens[:-1], len(tokens)).argmax(dim=-1).tolist()
    flips = [
        Flip(position, mine, theirs, float(rows[position][mine] - rows[position][theirs]))
        for position, (mine, theirs) in enumerate(zip(tokens, together, strict=True))
        if mine != theirs
    ]
    return len(tokens), flips
