"""What separate rejection sampling asks of the models: distributions, and tokens with what they were drawn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from families import Family

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.drafter import HfDrafter

PROMPT = "go to the red chair"
LENGTH = 8
WARM = Sampling(temperature=1.3, top_k=12, top_p=0.9, seed=4, sampler="rejection")


def greedy(family: Family, images: list[bytes]) -> list[int]:
    session = family.verifier.prepare(PROMPT, images)
    tokens: list[int] = []
    while len(tokens) < LENGTH:
        tokens += session.verify(tokens, (), Sampling())
    return tokens


def test_distributions_stand_in_the_places_of_the_choices(family: Family) -> None:
    images = family.images()
    truth = greedy(family, images)
    for sampling in (replace(WARM, temperature=0.2), WARM):
        found = family.verifier.prepare(PROMPT, images).distributions((), truth[:-1], sampling)
        assert len(found) == LENGTH
        for target, token in zip(found, truth, strict=True):
            assert target.probabilities.sum() == pytest.approx(1.0)
            assert target.tokens[np.argmax(target.probabilities)] == token
            assert len(target.tokens) <= 12 and max(target.tokens) < family.verifier.model.text.size


def test_any_split_into_passes_gives_the_same_distributions(family: Family) -> None:
    images = family.images()
    truth = greedy(family, images)
    whole = family.verifier.prepare(PROMPT, images).distributions((), truth[:-1], WARM)
    session = family.verifier.prepare(PROMPT, images)
    parts = (
        *session.distributions((), truth[:2], WARM),
        *session.distributions(truth[:3], (), WARM),
        *session.distributions(truth[:4], truth[4:7], WARM),
    )
    assert len(parts) == LENGTH
    for one, other in zip(parts, whole, strict=True):
        assert one.of(other.tokens) == pytest.approx(other.probabilities, abs=1e-4)


def test_drafted_tokens_come_with_the_distribution_they_were_drawn_from(family: Family) -> None:
    """The verifier's model drafts here, so that its own distributions tell what the draft should have drawn from."""
    images = family.images()
    session = HfDrafter(family.verifier.model).open(PROMPT, images)
    drafts = session.draft_sampled((), WARM)
    drafted = [next(drafts) for _ in range(5)]
    tokens = [token.token for token in drafted]
    targets = family.verifier.prepare(PROMPT, images).distributions((), tokens[:-1], WARM)
    for token, target in zip(drafted, targets, strict=True):
        assert token.distribution.of(target.tokens) == pytest.approx(target.probabilities, abs=1e-4)
        assert token.probability == token.distribution.of(token.token)
    again = session.draft_sampled(tokens[:2], WARM)
    assert [next(again).token for _ in range(3)] == tokens[2:]
    session.close()
    with pytest.raises(StopIteration):
        next(again)
