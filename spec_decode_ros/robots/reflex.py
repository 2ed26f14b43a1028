"""Commands that need no model: stop, emergency stop, and what a pair cannot know.

A stop that is missed costs more than one too many. So all is a stop that begins with one, or with a negation, and names no
other goal. These are tables of words and no understanding of language.
"""

from __future__ import annotations

import re
import unicodedata

from spec_decode_ros.actions.action import NOT_UNDERSTOOD, STOP, Action
from spec_decode_ros.actions.commands import COLOR_WORDS, METRES, OBJECT_WORDS
from spec_decode_ros.actions.prompt import PromptStyle, clean_instruction
from spec_decode_ros.actions.quantities import as_trained

_MAX_TEXT = 4000
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼ`´′＇"))

_POLITE = frozenset("please now robot hey ok immediately emergency".split())
"""With nothing else they are a stop: somebody who says so in a hurry wants one."""

_FILLERS = re.compile(
    r"\b(?:please|now|robot|immediately|emergency|right (?:now|away|here|there)|at once|this (?:instant|moment)|instantly|"
    r"buddy|dog|boy|dude|man|mate|thanks|thank you|for (?:gods|goodness|heavens) sake)\b"
)
_OPENERS = re.compile(
    r"(?:(?:hey|hi|hello|ok|oh|yes|just|and|so|well|but|then|lets|let us|you (?:must|should|have to|need to|shall|are to)|"
    r"i (?:said|say|told you to|want you to|need you to)|(?:can|could|would|will|wont) you(?: mind)?(?: to)?)(?: |$))+"
)
_STOP = re.compile(
    r"(?:stop|stopped|halt|freeze|stay|wait|hold|pause|whoa|cancel|abort|cease|quit|desist|enough|brake|no|nope|never mind|"
    r"stand (?:still|there|here)|keep (?:still|away|off|clear)|be still)(?: |$)"
)
_NEGATION = re.compile(
    r"(?:dont|do not|do nt|never|not|cannot|cant|must not|mustnt|should not|shouldnt|may not)(?: |$)"
)
_GO_ON = re.compile(
    r"(?:(?:you|ever|just|dare|to) )*(?:stop|halt|freeze|stay|wait|hold|pause|cancel|abort|quit|forget)\b"
)
"""Behind a negation: whoever shall not stop goes on."""

_RATHER = re.compile(
    r"\b(?:but|instead|rather)\b(?! no)|\b(?:until|before) you (?!are|hear|get|see|hit|fall)|\bother one\b"
)
"""In what is forbidden: there is something else to do."""

_ELSEWHERE = re.compile(
    r"(?:for me )?(?:at|by|near|beside|next to|in front|close|behind|with|when|once|after|if)\b"
)
"""Behind a stop: `stop at the red chair` is a way to go."""

_GOES = re.compile(
    r"(?:^|(?P<before>\S+) )(?:(?:go|find|walk|head|move|approach|navigate|drive|run|come|get|look|search|locate|reach|take|"
    r"bring|lead|show|visit|proceed|make|step|follow|seek|turn|trot|march|travel|advance|park|meet|rotate|"
    r"spin|face|swing|lower|raise|stroll|hurry|pass|check|pivot|retreat|straighten|"
    r"wake|keep (?:going|walking|moving))(?= \S)|(?:return|sit|lie|rest|crouch|relax|rise|continue|resume|"
    r"carry on|on your feet|"
    r"stand(?! still| there| here))\b)"
)
"""What asks for motion or a posture; most of them only with more words behind them."""

_NO_ORDER = frozenset(
    "to or you i we they not dont never a an the any another my your that this before until".split()
)
"""Before a word of motion: it is no order then, as in `stop before you run into the wall`."""

_PLACE = frozenset(
    word
    for options in (*COLOR_WORDS.values(), *OBJECT_WORDS.values())
    for word in (
        *options,
        "left",
        "right",
        "forward",
        "forwards",
        "back",
        "backward",
        "backwards",
        "ahead",
        "up",
        "down",
    )
)
_AROUND_A_PLACE = frozenset(
    (
        *"to at by near towards the a an that only one instead your goal target is next degrees degree".split(),
        *METRES,
    )
)
_KNOWN = (
    frozenset(
        re.findall(
            "[a-z]+", " ".join(p.pattern for p in (_FILLERS, _OPENERS, _STOP, _NEGATION, _GO_ON, _GOES))
        )
    )
    | _PLACE
)
_SQUEEZED = {re.sub(r"(.)\1+", r"\1", word): word for word in sorted(_KNOWN)}

_EMERGENCIES = frozenset({"emergency stop", "emergency", "e stop", "estop"})


def is_emergency(line: str) -> bool:
    """Whether an operator's line asks for the emergency stop, which latches."""
    return " ".join(" ".join(_clauses(line)).split()) in _EMERGENCIES


def is_stop(command: str) -> bool:
    """Whether a command says stop and names no other goal (an empty one says stop too).

    ``stop``, ``Please halt, buddy!``, ``don’t go to the red chair`` are; ``stop at the red chair`` and
    ``stop and go to the blue box`` are ways to go and are not.
    """
    clauses = [" ".join(_FILLERS.sub(" ", clause).split()) for clause in _clauses(command)]
    said = [rest for clause in clauses if (rest := clause[_opened(clause) :])]
    if not said:
        return _POLITE.issuperset(" ".join(_clauses(command)).split())
    begins = _STOP.match(said[0]) or _NEGATION.match(said[0])
    if begins is None or any(map(_names_a_goal, said)):
        return False
    # `not the red chair, the other`
    return not (
        said[0].startswith("not ")
        and any(re.match(r"(?:to )?(?:the|a|an|this|that) ", rest) for rest in said[1:])
    )


def answer_by_reflex(instruction: str, style: PromptStyle) -> Action | None:
    """The action for an instruction that no model is asked about; None for all others.

    Args:
        instruction: what the operator said.
        style: how the pair is prompted; one that knows language hears numbers as they are.
    """
    if is_stop(instruction):
        return STOP
    if style == "trained" and as_trained(clean_instruction(instruction)) is None:
        return Action(0.0, 0.0, NOT_UNDERSTOOD)
    return None


def _opened(clause: str) -> int:
    match = _OPENERS.match(clause)
    return match.end() if match else 0


def _names_a_goal(clause: str) -> bool:
    clause = clause[_opened(clause) :]
    if negation := _NEGATION.match(clause):
        rest = clause[negation.end() :]
        # The first word of motion is what shall not be done, `and` and `or` go on with that.
        orders = [match["before"] not in (_NO_ORDER | {"and"}) for match in _GOES.finditer(rest)]
        return bool(_GO_ON.match(rest) or _RATHER.search(rest)) or any(orders[1:])
    if stop := _STOP.match(clause):
        rest = clause[stop.end() :]
        return bool(_ELSEWHERE.match(rest)) or _names_a_goal(rest)
    words = set(clause.split())
    if words & _PLACE and words <= _PLACE | _AROUND_A_PLACE:
        return True
    return any(match["before"] not in _NO_ORDER for match in _GOES.finditer(clause))


def _clauses(text: str) -> list[str]:
    """What stands between punctuation marks, in plain lower-case words."""
    text = "".join(c for c in text[:_MAX_TEXT].translate(_APOSTROPHES) if unicodedata.category(c) != "Cf")
    plain = [c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c)]
    spaced = "".join(c if c.isalpha() else "," if c in ".,;:!?\n—–" else " " for c in plain)
    clauses = [[_plain(word) for word in clause.split()] for clause in spaced.split(",")]
    letters = [word for words in clauses for word in words]
    if len(letters) > 2 and all(len(letter) == 1 for letter in letters):  # S.T.O.P.
        return ["".join(letters)]
    return [" ".join(words) for words in clauses if words]


def _plain(word: str) -> str:
    """``stop`` for ``stoppp``."""
    return word if word in _KNOWN else _SQUEEZED.get(re.sub(r"(.)\1+", r"\1", word), word)
