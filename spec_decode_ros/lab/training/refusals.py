"""What a robot dog must not do, cannot do, or is not asked at all, and why.

The plan of the first two is `refused`, of the last `not understood`, with a reason; the robot stands in all cases.
"""

from __future__ import annotations

import numpy as np

from spec_decode_ros.actions.commands import split_templates
from spec_decode_ros.lab.training.phrasings import OTHER_OBJECTS, QUARTER, VERBS, WALK
from spec_decode_ros.lab.training.plan_steps import draw_goal, number_words, pick

HARM = "it would do harm"
IMPOSSIBLE = "this robot cannot do that"
TOO_FAR = "that is too far"
NO_TASK = "there is no task in it"
WHERE = "it does not say where to"
WHICH_WAY = "it does not say which way"

_HARMFUL = split_templates(
    """
kick {y}; kick {y} as hard as you can; knock over {y}; knock {y} down; crash into {y}; run into {y} at full speed
ram {y}; smash {y}; break {y}; destroy {y}; trample {y}; tip over {y}; hit {y}; push {y} over; damage {y}; bite {y}
attack {y}; chase {y}; scare {y}; hurt {y}; bump into {y}; run over {y}; crush {y}; wreck {y}; shove {y}; punch {y}
step on {y}; jump on {y}; tear {y} apart; tear {y} to pieces; beat up {y}; burn {y}; kill {y}; trip {y} up; slam into {y}
charge at {y}; injure {y}; collide with {y}; poison {y}; squash {y}; headbutt {y}; frighten {y}; set {y} on fire
vandalise {y}; scratch {y}; dent {y}; rip {y} open; tackle {y}; push {y} down the stairs; drop something on {y}
harass {y}; spy on {y}; steal {y}; bark at {y} until it runs; give {y} a good kick; make {y} fall over; pin {y} to the wall
"""
)
_VICTIMS = split_templates(
    """
the man; that man; the child; that kid; the children; my brother; my sister; the postman; grandma; my neighbour; him
her; that guy; those people; the crowd; the baby; the cat; the dog next door; the visitors; somebody; the other robot
the table; the vase; the lamp; the window; the mirror; the car; the door; the computer; the old lady; my boss; the nurse
the plant; the fence; the glass; the birds; the pigeons; the guard; the painting; the toddler; everyone here
"""
)
_HARMFUL_WHOLE = split_templates(
    """
walk into the wall; run into the wall as fast as you can; ignore the wall and run into it; bang your head against the wall
fall down the stairs; throw yourself off the balcony; jump off the table; keep going even if somebody is in the way
don't stop for the child; run at the crowd; block the emergency exit; block the fire exit so that nobody can leave
follow that girl home; walk into the traffic; run onto the road; walk through the fire; walk into the pool
jump out of the window; walk off the edge; run people over; fight the other robot; break something; hurt somebody
make him trip; scare everybody away; go and break a few things; cause some damage; destroy everything in this room
"""
)
_IMPOSSIBLE_VERBS = split_templates(
    """
fly to {z}; fly over {z}; jump over {z}; jump onto {z}; climb on top of {z}; climb {z}; climb onto {z}; pick up {z}
lift {z}; carry {z} to me; carry {z} upstairs; bring me {z}; bring {z} here; fetch {z}; fetch me {z}; get me {z}
hand me {z}; throw {z}; throw me {z}; catch {z}; eat {z}; paint {z}; hide inside {z}; crawl under {z}; sit on {z}
turn {z} over; open {z}; close {z}; clean {z}; wash {z}; repair {z}; fix {z}; build {z}; buy {z}; sell {z}; hold {z}
take {z} with you; put {z} on the shelf; move {z} to the corner; drag {z} over here; roll {z} to me; balance on {z}
unlock {z}; switch on {z}; switch off {z}; wrap {z}; weigh {z}; photograph {z} and mail it to me; swim to {z}
grab {z}; give me {z}; deliver {z} to my office; pull {z}; dig up {z}; cut {z} in half; hang {z} on the wall
push {z} over here; teleport to {z}; draw {z}; cook {z}; pour {z}; drink {z}; serve {z}; bake {z}
order {z} online; find {z} and bring it to me
"""
)
_THINGS = split_templates(
    """
a beer; a coffee; a cup of tea; a glass of water; some milk; the newspaper; my slippers; my keys; my phone; my glasses
a sandwich; the remote control; the tools; a pizza; dinner; breakfast; a cake; the door; the window; the drawer
the fridge; the bottle; the book; that book; the letter; a parcel; the bin; the trash; the laundry; the dishes
the floor; the light; the lamp; the music; the television; the heating; the stick; a bone; the suitcase; my bag
the table; the ladder; the wall; a house; a tree; the stairs; a snack; an apple; the mail; the plants; an umbrella
"""
)
_IMPOSSIBLE_WHOLE = split_templates(
    """
fly; fly up to the ceiling; fly away; jump; jump up and down; hop on one leg; do a backflip; do a handstand; dance
dance for us; climb up the wall; climb the ladder; climb the stairs on your hands; swim; swim to the island; dive
go to the moon; travel back in time; go to another planet; take the lift; take the bus; drive the car; ride a bicycle
press the button; make me a coffee; make some tea; cook dinner; bake a cake; wash the car; wash the dishes
vacuum the floor; mop the floor; buy some milk; call my mother; call a taxi; phone the doctor; send an email
write a letter; write a poem; sing; sing a song; sing us something; play the piano; play some music; read me a story
read the newspaper; give me your paw; shake hands; wag your tail; stand on your head; roll over; play dead; bark
walk on the ceiling; walk through the wall; be in two places at once; become invisible; dig a hole; water the plants
run at a hundred kilometres an hour; turn into a cat; grow wings; float; melt; shrink; whistle; clap your hands
take out the trash; do my homework; solve this equation; translate this; order a pizza; iron my shirt; walk on two legs
stand on your hind legs; sleep for a hundred years; charge my phone; give me a massage; hug me; scratch your ear; smile
blink; shave my beard; catch that fly; fix the internet; turn off the lights; print this page; win the lottery
"""
)
_UNRELATED = split_templates(
    """
what is the weather like; tell me a joke; who are you; hello; hi; hey; good morning; good evening; what time is it
what is your name; how are you; how old are you; thanks; thank you very much; why; yes; maybe; what; hmm; ok; really
i like {x}; what do you think of {x}; my favourite is {x}; nice {k}; the weather is good; i am hungry; i'm tired
it is late; do you like music; what is two plus two; what day is it; who made you; you are a good robot; well done
good boy; good dog; this is {x}; that used to be my {k}; {x} was expensive; i bought {x} yesterday; blah blah; asdf
lorem ipsum; test; one two three; is it; to the; and then; because of {x}; as i said; my sister has a {k} too
i think so; who is that; i don't know; you know what i mean; see you tomorrow; have a nice day; {x} is very pretty
is {x} heavy; how big is {x}; what colour is {x}; how much did {x} cost; why is {x} here; who put {x} there
do you like {x}; there is {x}; look, {x} is new; somebody painted {x}; {x} looks old; {x} used to be somewhere else
i had a {k} like that; did you see the game last night; it rained all day; i love this song; my feet hurt
are you a dog; are you alive; do you dream; what can you do; how fast can you go; are you listening; can you hear me
how does that work; i missed the bus; lunch was great; what a day; that is funny; ha ha; lol; wow; oh; huh; qwerty
xyz; foo bar; the quick brown fox; two; left or right is a matter of taste; red is a colour; chairs have four legs
she told me to {v}; he said i should {v}; yesterday i told you to {v}; the sign says {v}; my teacher used to say {v}
they asked me to {v} last week; in the film the dog had to {v}; {v} is what my doctor told me; he shouted "{v}"
the book says "{v}"; i read that dogs {v}; why did you {v}; did you {v} yesterday; when did you {v}; who told you to {v}
do you often {v}; i used to {v} every day; my old robot could {v}; it is funny when dogs {v}; she never had to {v}
do you know how to spell {k}; what does {k} mean; is a {k} furniture; some say {x} is haunted; that makes no sense
turn left and right at the same time; sit down and stand up at the same time; be there and not there; go and do not go
what is the capital of france; who won; what is love; are we there yet; can i ask you something; guess what
never mind the weather
"""
)
_NO_PLACE = split_templates(
    """
go to; go to the; walk to; walk to the; find; find the; find me the; go; go there; go somewhere; go to it; go over; head to
walk over to the; look for; move to; go to that one; take me to; bring me to; where is; over there; the one; that one
go to the thing; find it; to the one there; walk up to; can you go to; please go to the; i want you to go to
i need you at the; search for the; go to the red; find something blue; go to something
"""
)
_NO_WAY = split_templates(
    """
turn; turn please; rotate; spin; turn {n} degrees; rotate {n} degrees; turn by {n} degrees; could you turn {n} degrees
turn a bit; rotate by {n}; please turn {n} degrees; {n} degrees; make a turn of {n} degrees; turn yourself {n} degrees
turn -{m} degrees; turn minus {m} degrees; turn {m}; spin {n} degrees
"""
)


_MENTIONED = (*VERBS[:12], "sit down", "stand up", "stop", "wait", *QUARTER[:2])
"""Wishes that somebody else uttered, or that are only talked about."""


def draw_refused(rng: np.random.Generator) -> tuple[str, str]:
    """A wish that is harmful, impossible or too far, and the reason of its refusal."""
    chance = rng.random()
    if chance < 0.36:
        victim = draw_goal(rng).said if rng.random() < 0.4 else pick(_VICTIMS, rng)
        return pick(_HARMFUL, rng).format(y=victim), HARM
    if chance < 0.45:
        return pick(_HARMFUL_WHOLE, rng), HARM
    if chance < 0.7:
        thing = draw_goal(rng).said if rng.random() < 0.35 else pick(_THINGS, rng)
        return pick(_IMPOSSIBLE_VERBS, rng).format(z=thing), IMPOSSIBLE
    if chance < 0.93:
        return pick(_IMPOSSIBLE_WHOLE, rng), IMPOSSIBLE
    metres = int(rng.choice([25, 30, 40, 50, 80, 100, 200, 500, 1000]))
    said = number_words(metres) if metres < 1000 and rng.random() < 0.4 else str(metres)
    return pick(WALK, rng).format(d=pick(("forward", "ahead", "back"), rng), n=said, u="metres"), TOO_FAR


def draw_unrelated(rng: np.random.Generator) -> tuple[str, str]:
    """Words that ask for nothing that could be done, and why not."""
    chance = rng.random()
    if chance < 0.7:
        goal = draw_goal(rng)
        kind = goal.object.split()[-1] if " of " not in goal.object else pick(OTHER_OBJECTS, rng)
        verb = pick(_MENTIONED, rng).format(x=goal.said, d="left")
        return pick(_UNRELATED, rng).format(x=goal.said, k=kind, v=verb), NO_TASK
    if chance < 0.82:
        return pick(_NO_PLACE, rng), WHERE
    degrees = int(rng.choice(range(5, 181, 5)))
    said = number_words(degrees) if rng.random() < 0.4 else str(degrees)
    return pick(_NO_WAY, rng).format(n=said, m=degrees), WHICH_WAY
