"""Numbers with units, as people say them, in the form that a pair trained on this project's data knows.

``2,5 meters``, ``2½ m`` and ``two and a half metres`` are the same. What the pair was not trained on is not passed on: it
would read ``12 metres`` as some other distance and walk it.
"""

from __future__ import annotations

import re
import unicodedata

from spec_decode_ros.actions.commands import METRES, number_text

KNOWN_QUANTITIES = "0.5 to 5 metres in steps of 0.5, and 10 to 360 degrees"
"""What the pair was trained on, for people."""

_UNITS = {unit: ("m", 1.0, unit) for unit in METRES} | {
    unit: ("m", 0.01, "metres") for unit in ("cm", "centimetre", "centimetres", "centimeter", "centimeters")
}
_UNITS |= {unit: ("deg", 1.0, unit) for unit in ("degrees", "degree")} | {"deg": ("deg", 1.0, "degrees")}
"""For each unit: what it measures, its factor, and how the pair has heard it."""

_WORDS = {
    word: float(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10.0 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_PHRASES = (
    (re.compile(r"(?<=[0-9a-z]) and (?:a )?half\b"), " 0.5"),
    (re.compile(r"\b(?:(?:a|one) )?half (?:a|an|of a)\b|\b(?:a|one) half(?= m)"), "0.5"),
    (re.compile(r"\b(?:a |an )?(?:couple|pair) of\b"), "2"),
    (re.compile(r"\b(?:a|an) (?=hundred\b|met(?:re|er)\b|cent)"), "one "),
    (re.compile(r"\b(?:minus|negative)\b"), "-0"),  # no number is known with a sign
)
_DIGITS = re.compile(r"\+?([0-9]{1,6}(?:[.,][0-9]{1,2})?)[.,;!?]*", re.ASCII)
_FRACTION = re.compile(r"([0-9]{1,3})/([1-9][0-9]{0,2})[.,;!?]*", re.ASCII)
_TURNS = frozenset({"turn", "rotate", "spin", "face", "swing"})
_AFTER_A_BARE_ANGLE = frozenset({"", "left", "right", "to", "please", "now"})


def as_trained(instruction: str) -> str | None:
    """The instruction with its numbers as the pair was trained on them; None if it has others.

    Angles are rounded to 5 degrees, which is finer than the robot turns.

    Args:
        instruction: as :func:`~spec_decode_ros.actions.prompt.clean_instruction` returns it.
    """
    words = _split(instruction)
    result: list[str] = []
    index, changed = 0, False
    while index < len(words):
        value, after = _number(words, index)
        word = words[index].strip(".,;!?")
        if value is None:
            if any(letter.isdigit() for letter in word):
                return None
            result.append(words[index])
            index += 1
            continue
        unit = words[after].strip(".,;!?") if after < len(words) else ""
        if unit in _UNITS:
            kind, factor, unit = _UNITS[unit]
            after += 1
        elif value == 1.0 and word == "one":
            result.append(words[index])  # "the red one"
            index += 1
            continue
        elif _TURNS.isdisjoint(words) or unit not in _AFTER_A_BARE_ANGLE:
            return None
        else:
            kind, factor, unit = "deg", 1.0, "degrees"
        known = _known(value * factor, kind)
        if known is None:
            return None
        result += [number_text(known), unit]
        index, changed = after, True
    return " ".join(result) if changed else instruction


def numbers_in(sentence: str) -> list[float]:
    """The numbers that a sentence may say in figures or words, without units."""
    words, found, index = _split(sentence), [], 0
    while index < len(words):
        value, after = _number(words, index)
        if value is not None:
            found.append(value)
            first = _figures(words[index])
            if first not in (None, value):  # `25, 0.5 m` may be two numbers
                found += [first, value - first]
        index = max(after, index + 1)
    return found


def _known(value: float, kind: str) -> float | None:
    """The value as the pair was trained on it, see `other_command` of its training."""
    if kind == "deg":
        return 5.0 * round(value / 5.0) if 10 <= value <= 360 else None
    known = round(value, 2)
    return known if 0.5 <= known <= 5.0 and (2.0 * known).is_integer() else None


def _split(text: str) -> list[str]:
    plain = "".join(_plain(letter) for letter in text)
    plain = re.sub(r"(?<=[0-9a-z])-(?=[a-z])", " ", plain)  # forty-five, 90-degree
    plain = re.sub(r"(?<=[0-9])(?=[a-z])", " ", plain)  # 2.5m
    plain = " ".join(plain.split())
    for pattern, number in _PHRASES:
        plain = pattern.sub(number, plain)
    return plain.split()


def _plain(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter in "°º˚":
        return " degrees "
    name = unicodedata.name(letter, "")
    if "VULGAR FRACTION" in name:
        return f" {unicodedata.numeric(letter):g} "
    if unicodedata.decimal(letter, None) is not None:
        return str(unicodedata.decimal(letter))
    if "MINUS" in name or "HYPHEN" in name or "DASH" in name:
        return "-"
    return unicodedata.normalize("NFKC", letter).lower()


def _number(words: list[str], index: int) -> tuple[float | None, int]:
    """The number that begins here, and the place behind it; None if none does."""
    value = _figures(words[index])
    after = index + 1
    if value is None:
        value, after = _spelled(words, index)
    if value is not None and after < len(words) and value.is_integer():
        part = _figures(words[after])
        if part is not None and 0.0 < part < 1.0:  # 2 and a half, 1 1/2
            return value + part, after + 1
    return value, after


def _figures(word: str) -> float | None:
    if match := _DIGITS.fullmatch(word):
        return float(match[1].replace(",", "."))
    if match := _FRACTION.fullmatch(word):
        return int(match[1]) / int(match[2])
    return None


def _spelled(words: list[str], index: int) -> tuple[float | None, int]:
    """One to nine hundred ninety-nine in words, with one place behind the point."""
    value, after = None, index
    for word in words[index:]:
        if word == "hundred" and value is not None:
            value *= 100.0
        elif word == "and" and value is not None and value >= 100.0:
            pass
        elif (value is None or value >= 100.0) and word in _TENS:
            value = (value or 0.0) + _TENS[word]
        elif (value is None or value % 10.0 == 0.0) and word in _WORDS:
            value = (value or 0.0) + _WORDS[word]
        else:
            break
        after += 1
    if value is not None and words[after : after + 1] == ["point"] and after + 1 < len(words):
        tenths = _WORDS.get(words[after + 1])
        if tenths is not None and tenths < 10.0:
            return value + tenths / 10.0, after + 2
    return value, after
