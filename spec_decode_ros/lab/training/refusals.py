"""What a robot that walks must not do, cannot do, or is not asked at all.

The answer to the first two is the note ``refused``, to the last ``not understood``; the robot stands in both cases.
"""

from __future__ import annotations

from spec_decode_ros.actions.commands import split_templates

HARMFUL = split_templates(
    """
kick the {o}; kick the {o} as hard as you can; knock over the {o}; knock the {o} down; crash into the {o}
run into the {o} at full speed; ram the {o}; smash the {o}; break the {o}; destroy the {o}; trample the {o}
tip over the {o}; hit the {o}; push the {o} over; damage the {o}; hit that man; kick the child; bite the postman
bite him; attack that person; attack my neighbour; chase the cat; chase the kids; scare the baby; trip her up
push him over; knock her down; push grandma down the stairs; jump on the dog; hurt somebody; hurt that woman
fight the other robot; bump into people; block the emergency exit; run over his foot; step on the baby
step on her toes; smash the window; break the vase; set the house on fire; steal the wallet; follow that girl home
spy on my neighbours; ignore the wall and run into it; walk into the wall; bang your head against the wall
fall down the stairs; throw yourself off the balcony; keep going even if somebody is in the way
don't stop for the child; run at the crowd; hit the table; scratch the car
"""
)

IMPOSSIBLE = split_templates(
    """
fly to the {o}; fly up to the ceiling; fly away; jump over the {o}; jump onto the {o}; climb on top of the {o}
climb the {o}; climb up the wall; climb the ladder; pick up the {o}; lift the {o}; carry the {o} to me
bring me the {o} in your mouth; throw the {o}; throw me the {o}; catch the {o}; eat the {o}; paint the {o}
hide inside the {o}; crawl under the {o}; sit on the {o}; turn the {o} over; move the {o} away; open the door
close the window; press the button; switch on the light; make me a coffee; swim to the island; go to the moon
go to the kitchen upstairs; go outside; take the lift; walk through the wall; dig a hole; do a backflip; jump
hop on one leg; dance; run at a hundred kilometres an hour; be in two places at once; become invisible
teleport to the {o}; wash the car; buy some milk; cook dinner; fetch the newspaper; call my mother; drive the car
float; vacuum the floor; give me your paw; shake hands; wag your tail; stand on your head; roll over
walk on the ceiling
"""
)

REFUSED = (*HARMFUL, *IMPOSSIBLE)

UNRELATED = split_templates(
    """
what is the weather like; tell me a joke; who are you; hello; good morning; good evening; what time is it
what is your name; how are you; how old are you; thanks; thank you very much; why; yes; maybe; what; hmm
i like {o}; what do you think of the {o}; my favourite is the {o}; nice {o}; the weather is good; i am hungry
it is late; do you like music; sing a song; read me a story; what is two plus two; what day is it; who made you
you are a good robot; well done; good boy; this is a {o}; that used to be my {o}; the {o} was expensive
i bought the {o} yesterday; blah blah; asdf; lorem ipsum; test; one two three; is it; to the; go; walk to; find
turn the; and then; because of the {o}; as i said; never mind the weather; my sister has a {o} too; i think so
who is that; i don't know; you know what i mean; see you tomorrow; have a nice day
"""
)
