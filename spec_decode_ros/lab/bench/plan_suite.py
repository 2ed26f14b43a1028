"""The suite of plans: sentences of operators whose plans have one, two and three steps, as prompts of language models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import cast

from spec_decode_ros.actions.prompt import PromptStyle, build_plan_prompt
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.text_suite import SuitePrompts
from spec_decode_ros.lab.plan_judge import ExpectedPlan, read_expected
from spec_decode_ros.models.pair_config import PairConfig, resolve_location

_KINDS = ("1 step", "2 steps", "3 steps")
_WARM_UP = ("go to the black box, then sit down", "turn left by 90 degrees and walk forward 3 metres")


def plan_prompts(
    sentences: str | Path, pair: PairConfig, count: int, min_tokens: int = 1, seed: int = 0
) -> SuitePrompts:
    """Prompts of the suite, grouped by their numbers of steps, of a file of sentences. Raises SpecDecodeError.

    `min_tokens` counts the tokens of a plan's text, its end not included.
    """
    expected = read_expected(sentences)
    if min_tokens > 1:
        expected = _at_least(min_tokens, expected, pair)
    chosen = choose(expected, count, seed)
    style = cast(PromptStyle, pair.prompt)
    kinds = [wanted.kind for wanted in chosen]
    return SuitePrompts(
        [build_plan_prompt(wanted.sentence, style) for wanted in chosen],
        [build_plan_prompt(sentence, style) for sentence in _WARM_UP],
        {
            kind: [place for place, found in enumerate(kinds) if found == kind]
            for kind in _KINDS
            if kind in kinds
        },
    )


def choose(expected: Sequence[ExpectedPlan], count: int, seed: int) -> list[ExpectedPlan]:
    """So many sentences whose plans have one, two and three steps in turns; the seed draws them. Raises SpecDecodeError."""
    kinds = [[wanted for wanted in expected if wanted.kind == kind] for kind in _KINDS]
    for found in kinds:
        random.Random(seed).shuffle(found)
    chosen = [wanted for wanted in chain.from_iterable(zip_longest(*kinds)) if wanted]
    if count > len(chosen):
        raise SpecDecodeError(
            f"only {len(chosen)} sentences have such a plan of one to three steps, not {count}: give fewer --frames, "
            "fewer --min-tokens or another file of --sentences"
        )
    return chosen[:count]


def _at_least(tokens: int, expected: Sequence[ExpectedPlan], pair: PairConfig) -> list[ExpectedPlan]:
    from spec_decode_ros.models.loading import load_tokenizer

    tokenizer = load_tokenizer(pair.draft, resolve_location(pair.draft, pair.folder))
    return [
        wanted
        for wanted in expected
        if len(tokenizer.encode(wanted.plan.text, add_special_tokens=False)) >= tokens
    ]
