"""Prompts from templates: an endless stream for training, and held-out ones for measuring."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from spec_decode_ros.lab.text.templates import FILLINGS, HELD_OUT, HELD_OUT_FILLINGS, TRAINING

_BLANK = re.compile(r"\{(\w+?)(2?)\}")


def training_prompts(seed: int = 0) -> Iterator[str]:
    """Endless training prompts; every round uses each template once. The same seed gives the same prompts."""
    return _prompts(TRAINING, FILLINGS, seed)


def held_out_prompts(count: int, seed: int = 0) -> list[str]:
    """Prompts from templates that no training prompt has, mostly with fillings that no training prompt has."""
    endless = _prompts(HELD_OUT, FILLINGS | HELD_OUT_FILLINGS, seed)
    return [next(endless) for _ in range(count)]


def _prompts(templates: tuple[str, ...], fillings: dict[str, tuple[str, ...]], seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    seen: set[str] = set()
    while True:
        for template in chance.sample(templates, len(templates)):
            prompt = _filled(template, fillings, chance)
            # A template with few fillings runs out of new prompts: it is skipped then.
            if prompt not in seen or len(seen) > 1_000_000:
                seen.add(prompt)
                yield prompt


def _filled(template: str, fillings: dict[str, tuple[str, ...]], chance: random.Random) -> str:
    """The template with all blanks filled; `{name}` and `{name2}` get different fillings."""
    template = template.replace("{passage}", "{opening} {middle} {ending}")
    pairs = {name: chance.sample(fillings[name], 2) for name in dict.fromkeys(_names(template))}
    text = _BLANK.sub(lambda blank: pairs[blank[1]][1 if blank[2] else 0], template)
    return text[0].upper() + text[1:]


def _names(template: str) -> list[str]:
    return [blank[1] for blank in _BLANK.finditer(template)]
