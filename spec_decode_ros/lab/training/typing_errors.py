"""How people type: fillers, short forms, missing punctuation, slips of the fingers."""

from __future__ import annotations

import re

import numpy as np

_FILLERS = ("um", "uh", "er", "well", "you know", "like", "basically", "i guess", "so", "hmm")
_SHORT = {
    "you": "u",
    "please": "pls",
    "thanks": "thx",
    "your": "ur",
    "don't": "dont",
    "okay": "k",
    "i'd": "id",
    "degrees": "deg",
    "metres": "m",
    "do not": "don't",
    "i am": "im",
    "and": "&",
    "mustn't": "mustnt",
}


def as_typed(sentence: str, rng: np.random.Generator) -> str:
    """The sentence with the flaws of quick typing, its meaning unchanged, in lower case."""
    text = " ".join(sentence.lower().split())
    if rng.random() < 0.07:
        text = _with_filler(text, rng)
    if rng.random() < 0.06:
        text = _shortened(text, rng)
    chance = rng.random()
    if chance < 0.2:
        text = re.sub(r"(?<!\d)[.,;:!?](?!\d)", "", text)
    elif chance < 0.65:
        text += str(rng.choice([".", ".", "!", "?"]))
    if rng.random() < 0.12:
        for _ in range(int(rng.choice([1, 1, 2]))):
            text = _slip(text, rng)
    return " ".join(text.split())


def _with_filler(text: str, rng: np.random.Generator) -> str:
    parts = text.split(" ")
    place = 0 if rng.random() < 0.6 else int(rng.integers(len(parts)))
    if place and any(mark in parts[place] + parts[place - 1] for mark in "0123456789-"):
        place = 0
    parts.insert(place, f"{rng.choice(_FILLERS)}{',' if rng.random() < 0.5 else ''}")
    return " ".join(parts)


def _shortened(text: str, rng: np.random.Generator) -> str:
    for word, short in _SHORT.items():
        if rng.random() < 0.7:
            text = re.sub(rf"\b{re.escape(word)}\b", short, text)
    return text


def _slip(text: str, rng: np.random.Generator) -> str:
    """One letter of a longer word lost, doubled, or changed places with its neighbour."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not long:
        return text
    chosen = long[int(rng.integers(len(long)))]
    word = words[chosen]
    at = int(rng.integers(1, len(word) - 1))
    match int(rng.integers(3)):
        case 0:
            word = word[:at] + word[at + 1 :]
        case 1:
            word = word[:at] + word[at] + word[at:]
        case _:
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[chosen] = word
    return " ".join(words)
