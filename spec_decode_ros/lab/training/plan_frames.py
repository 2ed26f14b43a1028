"""Frames around the steps of a sentence: polite wrappers, joints, corrections, and ways to forbid something."""

from __future__ import annotations

from spec_decode_ros.actions.commands import split_templates


def _lines(text: str) -> tuple[str, ...]:
    """One template a line, with the spaces at its ends, for pieces that may contain semicolons."""
    return tuple(line[1:-1] for line in text.strip().splitlines())


FRAMES = split_templates(
    """
please {v}; could you {v}; could you please {v}; can you {v}; can you please {v}; would you {v}; would you please {v}
will you {v}; i want you to {v}; i would like you to {v}; i'd like you to {v}; i need you to {v}; you should {v}
you have to {v}; you must {v}; you need to {v}; you may {v}; you can {v} now; now {v}; ok {v}; okay, {v}; hey, {v}
hey robot, {v}; robot, {v}; good dog, {v}; come on, {v}; so {v}; alright, {v}; right, {v}; well, {v}; {v} please
{v}, please; {v} for me; {v} now; {v}, would you; {v} if you can; {v}, thanks; {v}, thank you; {v}, buddy; {v}, ok
{v}, will you; try to {v}; be so kind and {v}; be so good as to {v}; kindly {v}; just {v}; simply {v}; quickly {v}
slowly {v}; carefully {v}; let me see you {v}; it's time to {v}; time to {v}; your job is to {v}; your task is to {v}
the idea is to {v}; what i want is for you to {v}; why don't you {v}; why not {v}; i think you should {v}
maybe {v}; perhaps you could {v}; if possible, {v}; if you don't mind, {v}; when you have time, {v}; go ahead and {v}
feel free to {v}; i order you to {v}; i command you to {v}; i ask you to {v}; we need you to {v}; let's {v}
do you think you could {v}; is it possible for you to {v}; are you able to {v}; could i get you to {v}; um, {v}
i guess you could {v}; um could you {v}; ok so {v}; listen, {v}; attention: {v}; next, {v}; then {v}; and now {v}
i was hoping you could {v}; would you be able to {v}; i'd be glad if you could {v}; it would help me if you {v}
hello, please {v}; hi there, could you {v}; excuse me, can you {v}; sorry, could you {v}; good morning, {v}
"""
)
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
FORBIDDEN = split_templates(
    """
don't {v}; do not {v}; please don't {v}; please do not {v}; never {v}; you must not {v}; you mustn't {v}
you should not {v}; you shouldn't {v}; don't you dare {v}; i don't want you to {v}; i do not want you to {v}
there is no need to {v}; no need to {v}; you don't have to {v}; you don't need to {v}; you need not {v}; let's not {v}
better not {v}; under no circumstances {v}; do not {v} under any circumstances; on no account {v}; by no means {v}
no {g}; no more {g}; stop {g}; quit {g}; avoid {g}; refrain from {g}; abort {g}; don't even think of {g}
don't start {g}; i forbid you to {v}; it is forbidden to {v}; you are not allowed to {v}; you are not to {v}
{g} is forbidden; i'd rather you didn't {v}
i would prefer that you do not {v}; nobody asked you to {v}; i never said you should {v}
you can forget about {g}; cancel {g}; please stop {g}; can you stop {g}; could you not {v}; would you please not {v}
stay away from {x}; keep away from {x}; stay clear of {x}; steer clear of {x}; keep clear of {x}; keep off {x}
keep your distance from {x}; don't go near {x}; do not go anywhere near {x}; don't get close to {x}; don't approach {x}
do not come near {x}; don't touch {x}; leave {x} alone; leave {x} where it is; forget {x}; forget about {x}; ignore {x}
avoid {x}; {x} is off limits; {x} is not your goal; not {x}; no, not {x}; i don't want you near {x}
i don't want you anywhere close to {x}; never go to {x} again; you have no business at {x}; nothing to see at {x}, stay here
whatever happens, don't {v}; whatever happens, stay away from {x}; i no longer want you to {v}; i changed my mind about {x}
be careful not to {v}; make sure that you don't {v}; make sure you stay away from {x}; it's better if you don't {v}
"""
)
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
