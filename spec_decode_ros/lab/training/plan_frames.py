"""Frames around the steps of a sentence: polite wrappers, joints, corrections, and ways to forbid something."""

from __future__ import annotations

from spec_decode_ros.actions.commands import split_templates
from spec_decode_ros.lab.training.templates import read_lines


def _lines(text: str) -> tuple[str, ...]:
    """One template a line, with the spaces at its ends, for pieces that may contain semicolons."""
    return tuple(line[1:-1] for line in text.strip().splitlines())


FRAMES = read_lines("frames")
GERUND_FRAMES = split_templates(
    """
would you mind {g}; do you mind {g}; how about {g}; what about {g}; i suggest {g}; start {g}; begin {g}; consider {g}
please start {g}; i'm thinking of you {g}; i recommend {g}; try {g}; you could try {g}; {g} would be good
{g} would be great; i want to see you {g}; i would like to see you {g}
"""
)
JOINTS = _lines(
    """
| and then |
| and then |
|, then |
|, then |
|, and then |
| then |
| and |
| and |
|, and |
|, |
|; |
|. |
|. then |
|, after that |
| and after that |
|. after that, |
|. after that |
|, afterwards |
| and afterwards |
|. afterwards, |
|, next |
|. next, |
| and next |
|, and finally |
| and finally |
|. finally, |
|, once there |
| and once there |
|. once you are there, |
|, and when you are there |
|. when you get there, |
|. when you are done, |
|, and when that is done, |
|, and once that's done |
|, as soon as you have done that |
| and as soon as you are ready, |
|. when finished, |
|. and then |
|... then |
| - then |
| & |
| & then |
| and also |
|, subsequently |
|, followed by this: |
|. now |
|, and at last |
| and to finish, |
|, and to finish |
|. lastly, |
| plus |
|, thereafter |
|. thereafter |
|. upon arrival |
|, and there |
| and there |
"""
)
AFTERWARDS = _lines(
    """
| and then |
|, then |
|, and then |
|. then |
|, and after that |
|. after that, |
| and afterwards |
| and finally |
|. when you are done, |
| and |
"""
)
FIRST_THIS = split_templates(
    """
before you {b}, {a}; before you {b}, please {a}; before {gb}, {a}; before {gb} you should {a}; {b}, but first {a}
{b}, but before that {a}; {b} but {a} first; {b} after {ga}; {b} after you {a}; {b} once you are done {ga}
after {ga}, {b}; after {ga} please {b}; after you {a}, {b}; once you are done {ga}, {b}; as soon as you are done {ga}, {b}
when you have finished {ga}, {b}; having finished {ga}, {b}; start by {ga}, then {b}; start by {ga} and then {b}
begin with {ga}, then {b}; begin by {ga} and end by {gb}; first {a}, then {b}; first {a} and then {b}; {a} first, then {b}
{a} first and {b} after that; {a} and only then {b}; {a}, only after that {b}; {a} before {gb}; {a} before you {b}
you should {b}, but only after {ga}; don't {b} before you {a}; do not {b} until you {a}; {b} as soon as you finish {ga}
i want two things: {a} and {b}; two things: first {a}, second {b}; {a}, followed by {gb}; {ga} and then {gb}
would you mind {ga} and then {gb}; could you {a} and, once that is done, {b}; {b}, having finished {ga}
not only {a}, but also {b}; {a} as well as {b}; {b} when you are done {ga}; the first thing is to {a}, the second to {b}
"""
)
CORRECTIONS = _lines(
    """
|, no, |
|, no wait, |
|. no, |
|, sorry, |
|, sorry, i mean |
|, i mean |
| i mean |
|... no, |
|... wait, |
|, or rather |
|, rather |
|, correction: |
|. correction, |
|, actually, |
|, actually no, |
|. actually, |
|. scratch that, |
|. forget that, |
|, oops, |
|, no not that, |
| - no - |
| - sorry, |
|, wait, no, |
|. on second thought, |
|, i meant |
|, make that |
|. i was wrong, |
|, hmm, no, |
|, strike that, |
|. that was wrong, i want |
|, instead |
"""
)
TAKEN_BACK = _lines(
    """
|, no, stop |
|... no, don't |
|. on second thought, don't |
|. actually, never mind |
|. never mind |
|, forget it |
|. no, stay here |
|, wait, stop |
|... never mind |
|. cancel that |
|, no, cancel |
|. or better, do nothing |
|, no, don't do that |
|. no wait, stay where you are |
|... scratch that |
|. i changed my mind, stop |
"""
)
FORBIDDEN = read_lines("forbid")
INSTEAD = split_templates(
    """
don't {bad}, {good}; do not {bad}, {good}; don't {bad}, {good} instead; please don't {bad}, but {good}; {good}, don't {bad}
{good}, do not {bad}; instead of {gbad}, {good}; {good} instead of {gbad}; rather than {gbad}, {good}
{good} rather than {gbad}; don't {bad} but {good}; stop {gbad} and {good}; stop {gbad}, {good}; quit {gbad} and {good}
i don't want you to {bad}, i want you to {good}; you should not {bad}, you should {good}; never {bad}, just {good}
no {gbad}, please {good}; {good} without {gbad}; {good} but don't {bad}; {good}, but do not {bad}
no need to {bad}, just {good}
"""
)
OVERRULED = split_templates(
    """
not {a}, {b}; not to {a} but to {b}; not {a} but {b}; go to {b}, not to {a}; go to {b} and not to {a}; {b}, not {a}
{v} and stay away from {a}; {v} and keep away from {a}; {v} but avoid {a}; avoid {a} and {v}; leave {a} alone and {v}
{v} without going near {a}; forget {a}, {v}; ignore {a} and {v}; {v} instead of {a}; i don't want {a}, i want {b}
i said {b}, not {a}; i mean {b} and not {a}; skip {a} and {v}; stay away from {a}, {v}; never mind {a}, {v}
"""
)
WITH_CARE = _lines(
    """
| without bumping into anything|
| but don't touch it|
| and don't bump into anything|
| and stop there|
| and wait there|
| and stay there|
|, and be careful|
| but mind the others|
| and do not run|
| and stop|
| without hitting anything|
| but don't hurry|
| and do nothing else|
|, nothing else|
| and wait for me|
"""
)
