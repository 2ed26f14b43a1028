"""Sentences of operators with their plans, drawn at random: what the pair `planner` is trained on.

A sentence asks for one to five steps in one of many forms, corrects itself, forbids something, asks for what a robot
dog must not or cannot do, or for nothing at all. Some are joined from single steps, some were written whole. Typing errors,
fillers and missing punctuation come last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS, split_templates
from spec_decode_ros.actions.plan import STOP, Plan, Step
from spec_decode_ros.lab.training import phrasings as words
from spec_decode_ros.lab.training.plan_frames import (
    AFTERWARDS,
    CORRECTIONS,
    FIRST_THIS,
    FORBIDDEN,
    FRAMES,
    GERUND_FRAMES,
    INSTEAD,
    JOINTS,
    OVERRULED,
    TAKEN_BACK,
    WITH_CARE,
)
from spec_decode_ros.lab.training.plan_steps import draw_goal, draw_turn, draw_walk, pick
from spec_decode_ros.lab.training.refusals import draw_refused, draw_unrelated
from spec_decode_ros.lab.training.typing_errors import as_typed
from spec_decode_ros.lab.training.whole_sentences import NO_MOTION, SEVERAL, draw_whole

_IRREGULAR = split_templates(
    "lie lying; sit sitting; get getting; stop stopping; run running; trot trotting; spin spinning; step stepping; "
    "squat squatting; pop popping; jog jogging; swing swinging; hop hopping; dip dipping; slip slipping; cut cutting"
)
_GERUNDS = {verb: form for verb, form in (pair.split() for pair in _IRREGULAR)}
_STEP_VERBS = frozenset(
    "turn rotate spin swing make do face look walk go move step advance keep travel cover proceed shift take stand get "
    "raise rise sit lie lower rest settle crouch change march come pivot back retreat reverse withdraw squat "
    "straighten".split()
)
"""A way to say a step that begins with one of these can stand in any frame."""


class Clause(NamedTuple):
    """A step and how it is said: whole, and from its verb on, or an empty text if it does not begin with a verb."""

    step: Step
    said: str
    verb: str


class PlannedSentence(NamedTuple):
    """What an operator says, and the text of its plan."""

    sentence: str
    plan: str


def examples(seed: int) -> Iterator[PlannedSentence]:
    """Endless different sentences with their plans."""
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    while True:
        example = draw(rng)
        if example.sentence not in seen:
            seen.add(example.sentence)
            yield example


def draw(rng: np.random.Generator) -> PlannedSentence:
    """One sentence with its plan."""
    kinds: tuple[tuple[Callable[[np.random.Generator], tuple[str, Plan]], float], ...] = (
        (_one, 0.17),
        (_several, 0.17),
        (partial(draw_whole, SEVERAL), 0.32),
        (partial(draw_whole, NO_MOTION), 0.08),
        (_corrected, 0.06),
        (_instead, 0.05),
        (_stop, 0.07),
        (_refused, 0.05),
        (_not_understood, 0.03),
    )
    makers, weights = zip(*kinds, strict=True)
    sentence, plan = makers[int(rng.choice(len(makers), p=np.array(weights) / sum(weights)))](rng)
    return PlannedSentence(as_typed(sentence, rng), plan.text)


def _clause(rng: np.random.Generator, frame: bool = True) -> Clause:
    """One step; with `frame` false it always begins with its verb."""
    chance = rng.random()
    if chance < 0.56:
        goal = draw_goal(rng)
        verb = pick(words.VERBS, rng).format(x=goal.said)
        said = pick(words.GOTO, rng).format(x=goal.said) if frame and rng.random() < 0.5 else verb
        return Clause(Step("go", goal.object), said, verb)
    if chance < 0.7:
        step, said = draw_turn(rng)
    elif chance < 0.84:
        step, said = draw_walk(rng)
    elif chance < 0.92:
        step, said = Step("sit down"), pick(words.SIT, rng)
    else:
        step, said = Step("stand up"), pick(words.STAND, rng)
    begins = said.split(maxsplit=1)[0] in _STEP_VERBS
    if not begins and not frame:
        return _clause(rng, frame)
    return Clause(step, said, said if begins else "")


def gerund(phrase: str) -> str:
    """`walk to the box` as `walking to the box`, `go and stand` as `going and standing`."""
    verb, _, rest = phrase.partition(" ")
    stem = verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb
    form = _GERUNDS.get(verb, f"{stem}ing")
    return (
        f"{form} {rest}".strip()
        .replace("going and stand", "going and standing")
        .replace("going find", "finding")
    )


def _framed(verb: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.15:
        return pick(GERUND_FRAMES, rng).format(g=gerund(verb))
    return pick(FRAMES, rng).format(v=verb)


def _one(rng: np.random.Generator) -> tuple[str, Plan]:
    if rng.random() < 0.02:
        return pick(words.COME, rng), Plan((Step("go", "person"),))
    clause = _clause(rng)
    said = clause.said
    if clause.verb and rng.random() < 0.45:
        said = _framed(clause.verb, rng)
    if clause.step.kind == "go" and rng.random() < 0.06:
        said = f"{said}{pick(WITH_CARE, rng)}"
    return said, Plan((clause.step,))


def _several(rng: np.random.Generator) -> tuple[str, Plan]:
    form = rng.random()
    if form < 0.12:
        return _one_verb(rng)
    if form < 0.3:
        return _reordered(rng)
    count = int(rng.choice([2, 3, 4, 5], p=[0.58, 0.3, 0.08, 0.04]))
    if form < 0.4:
        return _enumerated(count, rng)
    clauses = [_clause(rng)] + [_clause(rng, frame=bool(rng.random() < 0.3)) for _ in range(count - 1)]
    if clauses[0].verb and rng.random() < 0.4:
        clauses[0] = clauses[0]._replace(said=pick(FRAMES, rng).format(v=clauses[0].verb))
    said = clauses[0].said
    same = pick(JOINTS, rng)
    for clause in clauses[1:]:
        joint = same if rng.random() < 0.4 else pick(JOINTS, rng)
        said = f"{said}{joint}{clause.said}"
    return said, Plan(tuple(clause.step for clause in clauses))


def _one_verb(rng: np.random.Generator) -> tuple[str, Plan]:
    """One verb for two or three steps."""
    if rng.random() < 0.25:
        first, second = (("left", 1), ("right", -1)) if rng.random() < 0.5 else (("right", -1), ("left", 1))
        joint = pick((" and then ", ", then ", " then ", " and ", ", and then "), rng)
        steps = Step("turn", amount=90 * first[1]), Step("turn", amount=90 * second[1])
        return f"{pick(('turn', 'look', 'face'), rng)} {first[0]}{joint}{second[0]}", Plan(steps)
    goals = [draw_goal(rng) for _ in range(int(rng.choice([2, 3], p=[0.65, 0.35])))]
    last = pick(
        (" and then ", ", then ", " and ", ", and finally ", " and after that ", " and finally "), rng
    )
    between = pick((", ", ", then ", " and then "), rng)
    listed = between.join(goal.said for goal in goals[:-1]) + last + goals[-1].said
    if rng.random() < 0.3:
        listed = f"first {listed}"
    template = pick((*words.VERBS[:20], "{x}", "{x}, in this order", "take a tour: {x}", "see {x}"), rng)
    return template.format(x=listed), Plan(tuple(Step("go", goal.object) for goal in goals))


def _reordered(rng: np.random.Generator) -> tuple[str, Plan]:
    """Two steps in a form that says which is first, perhaps with a third behind them."""
    first, second = _clause(rng, frame=False), _clause(rng, frame=False)
    template = pick(FIRST_THIS, rng)
    said = template.format(a=first.verb, b=second.verb, ga=gerund(first.verb), gb=gerund(second.verb))
    steps = [first.step, second.step]
    if rng.random() < 0.2:
        third = _clause(rng, frame=False)
        said = f"{said}{pick(AFTERWARDS, rng)}{third.verb}"
        steps.append(third.step)
    return said, Plan(tuple(steps))


def _enumerated(count: int, rng: np.random.Generator) -> tuple[str, Plan]:
    """`first ..., second ...`, `1. ... 2. ...`, or a list behind a colon."""
    clauses = [_clause(rng, frame=False) for _ in range(count)]
    verbs = [clause.verb for clause in clauses]
    style = int(rng.integers(4))
    if style == 0:
        mark = pick((". ", ") ", ": "), rng)
        said = " ".join(f"{number}{mark}{verb}" for number, verb in enumerate(verbs, 1))
    elif style == 1:
        order = ("first", "second", "third", "fourth", "fifth")
        said = ", ".join(f"{name} {verb}" for name, verb in zip(order, verbs, strict=False))
    elif style == 2:
        between = [pick(("then ", "next ", "after that ", ""), rng) + verb for verb in verbs[1:-1]]
        last = pick(("and finally ", "finally ", "lastly ", "and last "), rng) + verbs[-1]
        said = ", ".join([f"first {verbs[0]}", *between, last])
    else:
        head = pick(
            ("your tasks: ", "here is the plan: ", "to do: ", "i have a list: ", "three things: ", "steps: "),
            rng,
        )
        said = head + pick((", ", "; ", " - "), rng).join(verbs)
    return said, Plan(tuple(clause.step for clause in clauses))


def _corrected(rng: np.random.Generator) -> tuple[str, Plan]:
    """The operator says something else than was meant, and then what was meant; or takes it back."""
    wrong, right = _clause(rng, frame=False), _clause(rng, frame=False)
    if rng.random() < 0.2:
        return f"{wrong.verb}{pick(TAKEN_BACK, rng)}", Plan((STOP,))
    if rng.random() < 0.4:
        said, step = _corrected_word(rng)
    else:
        said, step = f"{wrong.verb}{pick(CORRECTIONS, rng)}{right.verb}", right.step
    steps = [step]
    if rng.random() < 0.25:
        further = _clause(rng, frame=False)
        said, steps = f"{said}{pick(AFTERWARDS, rng)}{further.verb}", [step, further.step]
    return said, Plan(tuple(steps))


def _corrected_word(rng: np.random.Generator) -> tuple[str, Step]:
    """One word is corrected: the colour, the kind, the side or the amount."""
    colors = rng.choice(list(COLOR_WORDS), 2, replace=False)
    kinds = rng.choice(list(OBJECT_WORDS), 2, replace=False)
    verb, oops = pick(words.VERBS, rng), pick(CORRECTIONS, rng)
    match int(rng.integers(4)):
        case 0:
            said = verb.format(x=f"the {colors[0]} {kinds[0]}")
            return f"{said}{oops}the {colors[1]} one", Step("go", f"{colors[1]} {kinds[0]}")
        case 1:
            said = verb.format(x=f"the {colors[0]} {kinds[0]}")
            return f"{said}{oops}the {colors[0]} {kinds[1]}", Step("go", f"{colors[0]} {kinds[1]}")
        case 2:
            sign = 1 if rng.random() < 0.5 else -1
            was, now = ("right", "left") if sign > 0 else ("left", "right")
            return f"turn {was}{oops}{now}", Step("turn", amount=90 * sign)
        case _:
            was, now = rng.choice(np.arange(1, 9), 2, replace=False)
            return f"walk {was} metres{oops}{now} metres forward", Step("walk", amount=float(now))


def _instead(rng: np.random.Generator) -> tuple[str, Plan]:
    """One step is forbidden and another one wanted."""
    bad, good = _clause(rng, frame=False), _clause(rng, frame=False)
    if bad.step.kind == "go" and good.step.kind == "go" and rng.random() < 0.5:
        a, b = draw_goal(rng), draw_goal(rng)
        verb = pick(words.VERBS, rng)
        return pick(OVERRULED, rng).format(a=a.said, b=b.said, v=verb.format(x=b.said)), Plan(
            (Step("go", b.object),)
        )
    said = pick(INSTEAD, rng).format(
        bad=bad.verb, good=good.verb, gbad=gerund(bad.verb), ggood=gerund(good.verb)
    )
    return said, Plan((good.step,))


def _stop(rng: np.random.Generator) -> tuple[str, Plan]:
    if rng.random() < 0.35:
        said = pick(words.STOP, rng).format(o=draw_goal(rng).said.removeprefix("the "))
    else:
        clause = _clause(rng, frame=False)
        goal = draw_goal(rng).said
        said = pick(FORBIDDEN, rng).format(v=clause.verb, g=gerund(clause.verb), x=goal)
    return said, Plan((STOP,))


def _refused(rng: np.random.Generator) -> tuple[str, Plan]:
    """Something harmful or impossible, alone or among steps that could be done."""
    said, reason = draw_refused(rng)
    if said.split()[0] != "a" and rng.random() < 0.35:
        said = pick(FRAMES, rng).format(v=said)
    if rng.random() < 0.25:
        clause = _clause(rng, frame=False)
        said = f"{clause.verb}{pick(AFTERWARDS, rng)}{said}"
    return said, Plan((), "refused", reason)


def _not_understood(rng: np.random.Generator) -> tuple[str, Plan]:
    said, reason = draw_unrelated(rng)
    return said, Plan((), "not understood", reason)
