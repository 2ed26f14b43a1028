"""Ways to say one step of a plan in free English: templates, synonyms, and objects that the simulator does not have.

`plan_steps.py` draws steps from them, `plan_sentences.py` joins these to whole sentences. The held-out wordings
(`config/instructions/held_out.txt`) share no template with them.
"""

from __future__ import annotations

from spec_decode_ros.actions.commands import split_templates
from spec_decode_ros.lab.training.templates import read_lines

GOTO = read_lines("go")

PLAIN = split_templates(
    """
the {c} {k}; the {c} {k}; the {c} {k}; the {c} {k}; that {c} {k}; a {c} {k}; the {k} that is {c}
the {k} which is {c}; the {k} in {c}; the {c} coloured {k}; the {c} colored {k}; the {k} painted {c}; this {c} {k}
"""
)
SIDE = split_templates(
    """
the {k} {s} of the {o}; the {k} to the {s} of the {o}; the {k} on the {s} of the {o}
the {k} on the {s} side of the {o}; the {k} that is {s} of the {o}; the {k} just {s} of the {o}
the {k} that stands {s} of the {o}; the {k} directly {s} of the {o}; the {k} a bit {s} of the {o}
"""
)
NEAREST = split_templates(
    """
the nearest {k}; the closest {k}; the {k} nearest to you; the {k} closest to you; the nearest {k} you see
whichever {k} is nearest; the {k} that is closest
"""
)
FARTHEST = split_templates(
    """
the farthest {k}; the furthest {k}; the most distant {k}; the {k} farthest from you; the {k} that is furthest away
whichever {k} is farthest
"""
)
EXCEPT = split_templates(
    """
not the {c} one, the other {k}; not the {c} {k}, the other one; the other {k}, not the {c} one
the {k} that is not {c}; the {k} that isn't {c}; any {k} but the {c} one; the {k}, but not the {c} one
"""
)
ONLY = split_templates(
    "the {k}; the {k}; that {k}; the only {k}; the {k} here; the {k} in this room; the one {k} there is"
)

TURN = read_lines("turn")
QUARTER = read_lines("quarter")
AROUND = read_lines("around")
WALK = read_lines("walk")
STEP = read_lines("step")
NO_DIRECTION = split_templates(
    """
walk {n} {u}; go {n} {u}; move {n} {u}; walk for {n} {u}; advance {n} {u}; advance by {n} {u}; march {n} {u}
go on for {n} {u}; take {n} {u}; walk another {n} {u}; come {n} {u} closer
"""
)
RETREAT = read_lines("retreat")
CIRCLE = split_templates(
    """
turn a full circle; spin around once; make a full turn; do a complete turn; turn all the way round; do a full spin
turn once around yourself; rotate a whole turn; do a three sixty; do a 360; turn 360 degrees; make one whole turn
"""
)
LEFTWARDS = split_templates(
    """
turn {n} degrees counterclockwise; turn {n} degrees anticlockwise; rotate counterclockwise by {n} degrees
rotate {n} degrees counter-clockwise; spin anticlockwise {n} degrees; turn anti-clockwise {n} degrees
"""
)
RIGHTWARDS = split_templates(
    """
turn {n} degrees clockwise; rotate clockwise by {n} degrees; rotate {n} degrees clockwise; turn clockwise {n} degrees
spin clockwise {n} degrees; make a clockwise turn of {n} degrees
"""
)
SAID_DISTANCES = split_templates(
    """
0.5 = half a metre; 0.5 = half a meter; 0.25 = a quarter of a metre; 0.5 = 1/2 metre; 0.5 = a half metre; 1 = a metre
1 = a meter; 1 = one single metre; 2 = a couple of metres; 2 = a couple of meters; 1.5 = a metre and a half
1.5 = one and a half metres; 2.5 = two and a half metres; 0.75 = three quarters of a metre; 1.5 = 1 1/2 metres
2.5 = 2 1/2 metres; 0.25 = 1/4 metre; 1.25 = one and a quarter metres; 0.1 = ten centimetres
1.5 = one point five metres; 0.8 = zero point eight metres; 2.2 = two point two metres; 3.5 = three point five meters
0.3 = a foot; 0.6 = two feet; 0.9 = three feet; 0.9 = a yard; 1.8 = two yards; 1.5 = five feet; 3 = ten feet
0.3 = one foot; 1.2 = four feet
"""
)
"""Metres and how they are said: fractions, and units that are converted (a foot is 0.3 m, a yard 0.9 m)."""

STOP = read_lines("stop")
STAND = read_lines("stand")
SIT = read_lines("sit")

VERBS = split_templates(
    """
go to {x}; walk to {x}; head to {x}; head over to {x}; move to {x}; move over to {x}; come to {x}; get to {x}
walk over to {x}; go over to {x}; visit {x}; approach {x}; find {x}; look for {x}; search for {x}; locate {x}; reach {x}
navigate to {x}; proceed to {x}; travel to {x}; drive to {x}; run to {x}; trot to {x}; step up to {x}; walk up to {x}
make your way to {x}; go up to {x}; go near {x}; get close to {x}; stop at {x}; go and stand by {x}; stand next to {x}
go find {x}; return to {x}; check out {x}; pass by {x}; take yourself to {x}; hurry to {x}; wander to {x}; stroll to {x}
"""
)
"""Ways to go somewhere that begin with their verb, so that they can stand in any frame."""

OTHER_OBJECTS = split_templates(
    """
person; door; table; sofa; bed; window; plant; lamp; bag; suitcase; bottle; desk; dog; cat; shelf; fridge; cupboard
tree; car; wall; corner; kitchen; rug; bin; bench; bicycle; television; statue; man; woman; child; doctor; visitor
charger; charging station; exit; bookcase; backpack; printer; screen; piano; vase; tent; bucket; pole; sign
vending machine; trolley; pallet; tyre; toolbox; whiteboard; counter; pillar; hydrant; mailbox; pillow; toy
"""
)
"""Objects that the simulator does not have; the planner passes them on."""

OTHER_COLORS = tuple("orange brown black grey pink silver beige turquoise wooden metal striped".split())

COME = split_templates(
    """
come here; come to me; come over here; come over to me; walk over here to me; come to where i am; get over here
please come to me; could you come over here; come; to me; come on over
"""
)
"""The operator is a person to go to."""

FORWARD = ("forward", "forwards", "ahead", "straight ahead", "straight on", "to the front")
BACKWARD = ("back", "backward", "backwards", "to the rear")
