"""Other words for the colours and kinds of object that an acting pair goes to, so that it hears those that it knows."""

from __future__ import annotations

from dataclasses import replace

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.plan import Plan, Step

COLORS = {
    "red": "crimson scarlet ruby cherry carmine vermilion tomato burgundy maroon",
    "green": "emerald lime olive mint jade",
    "blue": "navy azure cobalt sapphire indigo ultramarine cerulean",
    "yellow": "golden gold lemon canary mustard amber",
    "purple": "violet lilac lavender mauve plum",
    "white": "ivory snowy snow chalk pearl alabaster milky",
}
KINDS = {
    "chair": "seat stool armchair",
    "box": "cube crate block carton case",
    "ball": "sphere orb globe",
    "cone": "pylon",
    "cylinder": "barrel drum can column pillar tube tin canister",
}
_COLOR_OF = {
    word: name for name, words in COLORS.items() for word in (name, *COLOR_WORDS[name], *words.split())
}
_KIND_OF = {
    word: name for name, words in KINDS.items() for word in (name, *OBJECT_WORDS[name], *words.split())
}


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
