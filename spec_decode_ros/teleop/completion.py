"""Completions of a command that is being typed, from the phrasings that the models were trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from spec_decode_ros.actions.commands import BACKWARD, COLOR_WORDS, FORWARD, METRES, OBJECT_WORDS, TEMPLATES

_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_FAMILIES = ("goto", "turn", "quarter", "around", "walk", "step", "stop", "stand", "sit")


def _each_once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _usual_first(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The usual word of every group, then the synonyms."""
    listed = [_each_once(group) for group in groups]
    return _each_once([group[0] for group in listed] + [word for group in listed for word in group[1:]])


_COLORS = _usual_first(COLOR_WORDS.values())
_KINDS = _usual_first(OBJECT_WORDS.values())
_AHEAD = _each_once((*FORWARD, *BACKWARD))
_SIDES = ("left", "right")


@dataclass(frozen=True)
class _Place:
    """One word of a phrasing, or a choice of words; ``number`` takes any number, its words are examples."""

    words: tuple[str, ...]
    number: bool = False

    @property
    def open(self) -> bool:
        return len(self.words) > 1

    def begins_with(self, start: str) -> list[str]:
        return [word for word in self.words if word.startswith(start)]

    def accepts(self, word: str) -> bool:
        return word in self.words or (self.number and _NUMBER.fullmatch(word) is not None)


@cache
def _phrasings() -> tuple[tuple[_Place, ...], ...]:
    found = []
    for family in _FAMILIES:
        walking = family in ("walk", "step")
        slots = {
            "{c}": _Place(_COLORS),
            "{k}": _Place(_KINDS),
            "{d}": _Place(_each_once(word.split()[0] for word in _AHEAD) if walking else _SIDES),
            "{n}": _Place(("1", "2", "3", "0.5") if walking else ("90", "45", "30", "180"), number=True),
            "{u}": _Place(_each_once(METRES)),
        }
        # Those that go on after the last choice are rare in practice: `turn to the red ball and go there`.
        for template in sorted(TEMPLATES[family], key=lambda text: "{" in text and not text.endswith("}")):
            words = template.replace("{o}", "{c} {k}").split()
            found.append(tuple(slots[word] if word in slots else _Place((word,)) for word in words))
    return tuple(found)


def completions(typed: str, limit: int = 12) -> list[str]:
    """What the line could be after one more choice, best first; nothing where no phrasing fits.

    A completion ends in a space where the sentence goes on. Fixed words are taken together: ``wal`` is completed
    to ``walk to the``, and only the colour is then a choice again.
    """
    lowered = typed.lower()
    words = lowered.split()
    if not words:
        return []
    done, start = (words, "") if lowered[-1].isspace() else (words[:-1], words[-1])
    kept = typed[: len(typed) - len(start)]
    found: dict[str, None] = {}
    for phrasing in _phrasings():
        place = len(done)
        if place >= len(phrasing) or not all(
            part.accepts(word) for part, word in zip(phrasing, done, strict=False)
        ):
            continue
        for word in phrasing[place].begins_with(start):
            line, following = [word], place + 1
            while following < len(phrasing) and not phrasing[following].open:
                line.append(phrasing[following].words[0])
                following += 1
            whole = kept + " ".join(line) + (" " if following < len(phrasing) else "")
            if whole.rstrip().lower() != lowered.rstrip():
                found[whole] = None
    if start:
        # The word may be complete: then what may follow it is offered too.
        found |= dict.fromkeys(completions(f"{typed} ", limit))
    return list(found)[:limit]


def next_words(typed: str, completed: str) -> str:
    """The part of a completion that is not typed yet: the word being typed and what follows it."""
    start = len(typed) - len(typed.split()[-1]) if typed and not typed[-1].isspace() else len(typed)
    return completed[start:].strip()
