"""The draft of the text pair that comes with the package."""

from __future__ import annotations

import itertools

from packages import with_smollm2

from spec_decode_ros.models.interfaces import GREEDY
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import load_pair_config

PROMPT = "Name three things that a robot should know about stairs."


def test_it_loads_without_its_target_and_speaks_its_vocabulary() -> None:
    drafter = load_drafter(load_pair_config("smollm2"), threads=1)
    session = drafter.open(PROMPT)
    tokens = list(itertools.islice(session.draft((), GREEDY), 12))
    assert tokens and max(tokens) < 49152
    assert drafter.decode(tokens).isprintable()
    session.close()


@with_smollm2
def test_its_target_accepts_a_part_of_what_it_says() -> None:
    pair = load_pair_config("smollm2")
    drafter, verifier = load_drafter(pair, threads=1), load_verifier(pair, threads=1)
    assert drafter.vocabulary == verifier.vocabulary
    target, draft = verifier.prepare(PROMPT), drafter.open(PROMPT)
    answer: list[int] = []
    accepted = 0
    while len(answer) < 32:
        guess = list(itertools.islice(draft.draft(answer, GREEDY), 4))
        choices = target.verify(answer, guess, GREEDY)
        right = next((n for n, token in enumerate(guess) if token != choices[n]), len(guess))
        answer += choices[: right + 1]
        accepted += right
    assert accepted >= 4
