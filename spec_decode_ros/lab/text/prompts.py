"""Prompts out of templates: endless ones to learn on, others to be measured on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from spec_decode_ros.lab.text.templates import FILLINGS, HELD_OUT, HELD_OUT_FILLINGS, TRAINING

_BLANK = re.compile(r"\{(\w+?)(2?)\}")


def training_prompts(seed: int = 0) -> Iterator[str]:
    """Prompts without end, the templates taken in turn; the same seed gives the same prompts."""
    return _prompts(TRAINING, FILLINGS, seed)


def held_out_prompts(count: int, seed: int = 0) -> list[str]:
    """Prompts from templates, and mostly about things, that no training prompt has."""
    endless = _prompts(HELD_OUT, FILLINGS | HELD_OUT_FILLINGS, seed)
    return [next(endless) for _ in range(count)]


def _prompts(templates: tuple[str, ...], fillings: dict[str, tuple[str, ...]], seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    seen: set[str] = set()
    while True:
        for template in chance.sample(templates, len(templates)):
            prompt = _filled(template, fillings, chance)
            # A short template has few prompts: rather leave it out of this round than repeat one.
            if prompt not in seen or len(seen) > 1_000_000:
                seen.add(prompt)
                yield prompt


def _filled(template: str, fillings: dict[str, tuple[str, ...]], chance: random.Random) -> str:
    """The template with every blank filled; `{name}` and `{name2}` get different fillings."""
    template = template.replace("{passage}", "{opening} {middle} {ending}")
    pairs = {name: chance.sample(fillings[name], 2) for name in dict.fromkeys(_names(template))}
    text = _BLANK.sub(lambda blank: pairs[blank[1]][1 if blank[2] else 0], template)
    return text[0].upper() + text[1:]


def _names(template: str) -> list[str]:
    return [blank[1] for blank in _BLANK.finditer(template)]
