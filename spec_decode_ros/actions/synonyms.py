"""Other words for the colours and kinds of object that an acting pair goes to, so that it hears those that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.plan import Plan, Step

TAUGHT = {
    "chair": ("seat", "stool", "armchair"),
    "box": ("cube", "crate", "block", "carton"),
    "ball": ("sphere", "orb"),
    "cone": ("pylon", "traffic cone"),
    "cylinder": ("barrel", "drum", "can", "column"),
    "red": ("crimson", "scarlet"),
    "green": ("emerald",),
    "blue": ("navy",),
    "yellow": ("golden",),
    "purple": ("violet", "lilac"),
    "white": ("snow-white",),
}
"""Synonyms that the shipped planner has learned, beside those of the acting pair."""

FURTHER = {
    "chair": (),
    "box": ("case",),
    "ball": ("globe",),
    "cone": (),
    "cylinder": ("pillar", "tube", "tin", "canister"),
    "red": ("ruby", "cherry", "carmine", "vermilion", "tomato", "burgundy", "maroon"),
    "green": ("lime", "olive", "mint", "jade"),
    "blue": ("azure", "cobalt", "sapphire", "indigo", "ultramarine", "cerulean"),
    "yellow": ("gold", "lemon", "canary", "mustard", "amber"),
    "purple": ("lavender", "mauve", "plum"),
    "white": ("ivory", "snow", "snowy", "chalk", "pearl", "alabaster", "milky"),
}
"""Synonyms that it passes on as it hears them."""


def _names(usual: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The name that each word stands for."""
    return {
        word: name for name, words in usual.items() for word in (name, *words, *TAUGHT[name], *FURTHER[name])
    }


_COLOR_OF, _KIND_OF = _names(COLOR_WORDS), _names(OBJECT_WORDS)


def plainly_named(plan: Plan) -> Plan:
    """The plan with its objects' colours and kinds in the words of the acting pair; other descriptions stay as they are."""
    return replace(plan, steps=tuple(map(_plainly_named, plan.steps)))


def _plainly_named(step: Step) -> Step:
    *before, kind = step.object.replace("traffic cone", "cone").split() or [""]
    # `lemon-yellow`, `snow white`, `navy blue`: the last word that is a colour counts, if all of them are.
    colors = [_COLOR_OF.get(word) for word in " ".join(before).replace("-", " ").split()]
    if not colors or None in colors or kind not in _KIND_OF:
        return step
    return replace(step, object=f"{colors[-1]} {_KIND_OF[kind]}")
