"""Ways to say one step of a plan in free English: templates, synonyms, and objects that the simulator does not have.

`plan_steps.py` draws steps from them, `plan_sentences.py` joins these to whole sentences. The held-out wordings
(`config/instructions/held_out.txt`) share no template with them.
"""

from __future__ import annotations

from spec_decode_ros.actions.commands import split_templates

MORE_WORDS = {
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
"""Synonyms, beside those of the small language."""

GOTO = split_templates(
    """
go to {x}; walk to {x}; head to {x}; head over to {x}; could you head over to {x}; can you walk over to {x}
would you go over to {x}; would you mind going to {x}; i want you at {x}; i'd like you to go to {x}
i would like you to walk to {x}; make your way to {x}; make your way over to {x}; get yourself over to {x}
move on over to {x}; take yourself to {x}; please find {x} and go there; find {x}; find {x} for me
go and find {x}; look around for {x}; have a look for {x}; see if you can find {x}; see if you can get to {x}
i need you to find {x}; i need you to go to {x}; your next stop is {x}; next stop, {x}; next up is {x}; off to {x}
off you go to {x}; let's go to {x}; let's head to {x}; let's have you at {x}; stand next to {x}; stand beside {x}
stand in front of {x}; come to a stop in front of {x}; stop by {x}; wait next to {x}; wait for me at {x}
meet me by {x}; position yourself at {x}; place yourself near {x}; get close to {x}
come up to {x}; come close to {x}; approach {x}; approach {x} and stop; walk up to {x}
walk towards {x} until you reach it; keep walking until you get to {x}; steer for {x}; aim for {x}
set off for {x}; set course for {x}; travel to {x}; proceed to {x}; navigate to {x}; drive over to {x}
trot over to {x}; run over to {x}; hurry to {x}; take me to {x}; guide me to {x}; lead the way to {x}
bring me to {x}; show me where {x} is; show me {x}; where is {x}; do you see {x}; can you see {x}, then go there
i am looking for {x}; i am waiting at {x}; i lost {x}, find it; i want to see {x}; the goal is {x}
your goal is {x}; target: {x}; destination: {x}; {x}; {x}, please; {x}, go; to {x}; over to {x}; go visit {x}
pay a visit to {x}; you should be at {x}; you have to get to {x}; you need to be near {x}; try to get to {x}
would you please find {x}; could you find {x}; could you possibly find {x}; could you walk to {x}
will you walk to {x}; are you able to reach {x}; turn to {x} and walk there; search for {x} and stop there
spot {x} and walk up to it; return to {x}; go back to {x}
you are wanted at {x}; {x} needs a visit from you; let {x} be your goal; {x} is calling you; {x} is where i need you
your place is at {x}; {x}, that's where you go; report to {x}; join me at {x}; inspect {x}; examine {x} up close
have a look at {x}; take a look at {x}; sniff at {x}; check {x}; guard {x}; wait at {x}; park at {x}; park next to {x}
face {x} and go there; accompany me to {x}; escort me to {x}; walk me to {x}; close in on {x}; home in on {x}; make for {x}
be at {x}; get over to {x}; swing by {x}; drop by {x}; i'd love to see you at {x}; come and meet me at {x}; end up at {x}
set yourself beside {x}; you'll find me at {x}; my keys are next to {x}, go and look; someone is waiting at {x}
the meeting is at {x}; the next target is {x}; new goal: {x}; waypoint: {x}; goto {x}; {x} would be a good spot for you
i want a closer look at {x}; i'd be happier with you near {x}; we are all at {x}, come; you'd better get to {x}
can we go to {x}; shall we walk to {x}; what about {x}, could you go there; please be at {x}; be by {x}
aim your steps at {x}; your way leads to {x}; see that you get to {x}; make sure you reach {x}
get as near to {x} as you can; i'll follow you to {x}
"""
)

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

TURN = split_templates(
    """
turn {d} {n} degrees; turn {n} degrees {d}; turn {n} degrees to the {d}; turn {d} by {n} degrees; turn {d} by {n}
could you turn {n} degrees to the {d}; would you turn {d} {n} degrees; please rotate {n} degrees {d}
rotate {d} by {n} degrees; rotate yourself {n} degrees to the {d}; spin {n} degrees to the {d}
swing round {n} degrees to the {d}; {n} degrees {d}; {n} degrees to the {d}; i want a {d} turn of {n} degrees
make a turn of {n} degrees to the {d}; do a {n} degree turn {d}; change your heading by {n} degrees to the {d}
face {n} degrees further {d}
turn {n} degrees towards the {d}; pivot {n} degrees {d}; pivot {d} by {n} degrees; give me {n} degrees {d}
look {n} degrees to the {d}; turn your body {d} by {n} degrees; a {d} turn of {n} degrees; go {n} degrees {d}; rotate {d} {n}
"""
)
QUARTER = split_templates(
    """
turn {d}; turn to the {d}; turn {d} please; could you turn {d}; face {d}; face to the {d}; a quarter turn {d}
make a quarter turn to the {d}; rotate to your {d}; look to your {d}; would you look {d}; turn to your {d}; go {d}
turn by a quarter to the {d}; a right angle to the {d}; hang a {d}; make a {d}; take a {d}; make a {d} turn; turn {d} now
a {d} turn please; have a look to the {d}; what is there on your {d}? turn
"""
)
AROUND = split_templates(
    """
turn around; could you turn around; turn right round and face the other way; about turn; do a half turn
make an about face; face the opposite way; look behind you; spin around half way; turn your back to me
make a u-turn; do a one eighty; turn 180; turn 180 degrees; turn the other way; reverse direction; do a 180
turn to what is behind you; turn back; face backwards; look back; show me your tail; a half turn please
"""
)
WALK = split_templates(
    """
walk {d} {n} {u}; walk {n} {u} {d}; go {n} {u} {d}; go {d} {n} {u}; move {d} by {n} {u}; {n} {u} {d}
could you walk {n} {u} {d}; could you move {n} {u} {d}; would you go {d} for {n} {u}; please go {d} for {n} {u}
take {n} {u} {d}; advance {n} {u} {d}; i want you to move {d} {n} {u}; i want you {n} {u} {d}; step {n} {u} {d}
keep going {d} for {n} {u}; travel {n} {u} {d}; cover {n} {u} {d}; proceed {d} for {n} {u}; shift {d} by {n} {u}
walk {d} about {n} {u}; go {d} by roughly {n} {u}; i need you {n} {u} further {d}; a walk of {n} {u} {d}; do {n} {u} {d}
come {d} by {n} {u}; make {n} {u} {d}; put {n} {u} behind you, going {d}
"""
)
STEP = split_templates(
    """
walk {d}; go {d}; move {d}; move {d} a little; go a bit {d}; a little {d}; could you move a bit {d}
just a step {d}; take a step {d}; one step {d} please; step {d}
a step {d}; one step {d}; a tiny bit {d}; inch {d}; a metre {d}; move {d} slightly; scoot {d}
"""
)
NO_DIRECTION = split_templates(
    """
walk {n} {u}; go {n} {u}; move {n} {u}; walk for {n} {u}; advance {n} {u}; advance by {n} {u}; march {n} {u}
go on for {n} {u}; take {n} {u}; walk another {n} {u}; come {n} {u} closer
"""
)
RETREAT = split_templates(
    """
back up {n} {u}; back off {n} {u}; retreat {n} {u}; reverse {n} {u}; back up by {n} {u}; reverse by {n} {u}
retreat by {n} {u}; walk backwards for {n} {u}; withdraw {n} {u}; go in reverse for {n} {u}; pull back {n} {u}
"""
)
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

STOP = split_templates(
    """
stop; stop right there; stop please; please stop; could you stop; stop it; stop moving please; halt
hold it right there; hold on; stay put; stay where you are; don't move; do not move a muscle; wait there
wait a moment; freeze; stand still; that's enough; enough; that will do; cancel that; abort; no more walking
stop what you are doing; forget it; don't go anywhere; never mind, stay here; keep still; rest where you are
do not go to the {o}; don't walk to the {o}; stay away from the {o}; forget about the {o}
i don't want you at the {o}; leave the {o} alone
no; whoa; whoa there; pause; cease; hang on; just a second; one moment please; don't do anything; do nothing
hold your horses; not another step; not an inch further; cut it out; stay; quit it; i take that back; leave it
cancel everything; drop everything; emergency stop; all stop; no further; that's far enough; remain there
keep your position; remain where you are; please remain still; you can stop now; that is it, you can stay; abort mission
stop the mission; end it here; enough for today; i don't need you any more; let it be; don't bother; that won't be necessary
"""
)
STAND = split_templates(
    """
stand up; get up; get up please; could you get up; up on your feet; rise please; stand on your legs; up you get
please stand; would you stand up; get back up; raise yourself up; time to get up; stand up straight
get on your feet; come up; rise and shine; wake up; get off the floor; up up up; straighten your legs; back on your feet
onto your paws; be upright; lift yourself up; rise; up; stop lying around; on your feet; stand tall; hop to your feet
"""
)
SIT = split_templates(
    """
sit down; sit; please sit; could you sit down; have a seat; take a seat on the floor; lie down; lie down please
get down on the floor; down you go; would you sit; lower your body; rest on the ground; settle down; crouch down
lie on your belly; put your belly on the ground; take a nap; take a rest; have a rest; down boy; squat; hunker down
get off your feet; plop down; sit on your bottom; lie flat; kneel down; go down; relax on the floor; lower yourself
take a break on the floor; curl up; please be seated; go to sleep; you can rest now; make yourself comfortable on the ground
"""
)

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
