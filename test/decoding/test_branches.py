"""Several drafts at once: in one pass as a tree, and prepared on the edge for corrections that may come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import EOS

from spec_decode_ros.decoding.branches import LENGTH
from spec_decode_ros.decoding.branches import Branches as Prepared
from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import DraftFrom, RunPass, Send
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import (
    MOST_BRANCH_NODES,
    Branches,
    Committed,
    Draft,
    Open,
    Sampling,
    ServerMode,
    TokenOutcome,
)
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.sampling import choose, runner_up
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError

NEVER_RIGHT_AGAIN = Measurements(0.0, 1.0, 10.0, 0.8, own_ms=1.0, wild=0.0)
"""A server to which drafts that were wrong before are worth less than its own."""


def server(nodes: int, *, own: int = 0, mode: ServerMode = ServerMode.STREAM, **opened) -> CloudMachine:
    machine = CloudMachine({EOS}, own=own, nodes=nodes, measured=NEVER_RIGHT_AGAIN)
    machine.receive(Open(1, "p", mode=mode, **opened))
    return machine


def report(commands: list) -> Committed:
    assert isinstance(commands[0], Send) and isinstance(commands[0].message, Committed)
    return commands[0].message


def test_drafts_that_disagree_stand_in_one_pass() -> None:
    machine = server(8, draft=(5, 7, 8))
    machine.receive(Draft(1, 0, (5, 6, 9)))
    tree = Tree((5, 6, 9, 7, 8), (-1, 0, 1, 0, 3))
    assert machine.prepared() == [RunPass((), (5, 6, 9), tree=tree)]
    told = report(machine.pass_finished((5, 7, 4, 4, 8, 9)))
    assert told.tokens == (5, 7, 8, 9)
    assert told.outcomes == (
        TokenOutcome.ACCEPTED,
        TokenOutcome.ACCEPTED,
        TokenOutcome.ACCEPTED,
        TokenOutcome.BONUS,
    )
    assert (told.passes, told.drafted) == (1, 3)


def test_what_no_branch_foresaw_is_a_correction() -> None:
    machine = server(8, draft=(5, 7, 8))
    machine.receive(Draft(1, 0, (5, 6, 9)))
    machine.prepared()
    told = report(machine.pass_finished((5, 4, 9, 9, 8, 9)))
    assert (told.tokens, told.outcomes) == ((5, 4), (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED))


def test_the_tree_holds_no_more_than_it_may_beside_the_best_draft() -> None:
    for nodes in (0, 1):
        machine = server(nodes, draft=(5, 7, 8))
        machine.receive(Draft(1, 0, (5, 6, 9)))
        (run,) = machine.prepared()
        assert run.draft == (5, 6, 9)
        assert run.tree == (Tree((5, 6, 9, 7), (-1, 0, 1, 0)) if nodes else None)


def test_drafts_that_agree_stay_a_line() -> None:
    machine = server(8, draft=(5, 6, 7))
    machine.receive(Draft(1, 0, (5, 6)))
    assert machine.prepared() == [RunPass((), (5, 6, 7))]


def test_the_servers_own_draft_and_the_edges_are_counted_apart() -> None:
    machine = server(8, own=2, mode=ServerMode.SELF_DRAFT, draft=(5, 6, 7))
    machine.prepared()
    assert machine.pass_finished((4, 9, 9, 9))[1:] == [RunPass((4,), (), own=2)]
    tree = Tree((8, 7, 6, 7), (-1, 0, -1, 2))
    assert machine.pass_begins((8, 7)) == RunPass((4,), (8, 7), tree=tree)
    told = report(machine.pass_finished((6, 9, 9, 7, 3)))
    assert told.tokens == (6, 7, 3)
    assert told.outcomes == (TokenOutcome.ACCEPTED, TokenOutcome.ACCEPTED, TokenOutcome.BONUS)
    assert told.drafted == 3 + 2
    assert machine.own_judged == (1, 0)
    assert machine.pass_begins((1, 2)).tree is None
    told = report(machine.pass_finished((1, 2, 3)))
    assert machine.own_judged == (3, 2)
    assert set(told.outcomes) == {TokenOutcome.BONUS} and told.drafted == 5


# ---- prepared on the edge ----------------------------------------------------------------------------------


def noted(most: int, *chances: float) -> Prepared:
    """Runner-ups of the draft 1, 2, 3, ...: each is its token plus 10."""
    prepared = Prepared(most)
    for place, probability in enumerate(chances):
        prepared.note(tuple(range(1, place + 1)), (place + 11, probability))
    return prepared


def test_early_places_come_first_where_all_are_equally_unsure() -> None:
    prepared, places = noted(2, 0.2, 0.2, 0.2), []
    while (place := prepared.place((), (1, 2, 3))) is not None:
        prepared.begin(place)
        places.append(place)
    assert places == [(11,), (1, 12)]


def test_a_place_where_the_draft_model_hesitated_comes_before_earlier_ones() -> None:
    assert noted(1, 0.01, 0.4, 0.45).place((), (1, 2, 3)) == (1, 12)
    assert noted(1, 0.01, 0.4, 0.45).place((1, 2), (3,)) == (1, 2, 13)
    assert noted(1, 0.2).place((), ()) is None


def test_what_is_prepared_is_found_by_its_text_until_it_is_overtaken() -> None:
    prepared = noted(2, 0.2, 0.2)
    prepared.begin((1, 12))
    prepared.extend((1, 12), 5)
    prepared.extend((1, 12), 6)
    assert prepared.after((1, 12)) == (5, 6)
    assert prepared.after((1,)) == prepared.after((2, 12)) == ()
    assert prepared.tree((1,)) == Tree.line((12, 5, 6))
    prepared.forget((1, 2))
    assert prepared.after((1, 12)) == ()


def edge(**changes) -> tuple[EdgeMachine, list]:
    """An edge that has drafted 1, 2, 3 with 11, 12, 13 as second choices, and what it then commands."""
    machine = EdgeMachine(
        replace(METHODS["auto"], branches=2, **changes), Request(1, "p", max_tokens=12), {EOS}
    )
    machine.start(0.0)
    for token in (1, 2, 3):
        machine.drafted(1, token, (token + 10, 0.2))
    return machine, machine.drafted(1, EOS)


def test_the_edge_prepares_while_it_waits_and_sends_what_it_has() -> None:
    machine, commands = edge()
    assert commands[-1] == DraftFrom(2, (11,), LENGTH)
    for token in (4, 5, 6):
        assert machine.drafted(2, token) == []
    sent, following = machine.drafted(2, 7)
    assert sent == Send(Branches(1, 0, (11, 4, 5, 6, 7), (0, 0, 1, 2, 3)))
    assert following == DraftFrom(3, (1, 12), LENGTH)
    assert machine.draft_ended(3)[0].message.lines == ((11, 4, 5, 6, 7), (1, 12))


def test_branches_may_go_in_one_message_when_all_are_prepared() -> None:
    machine, _ = edge(gathers_branches=True)
    made = [machine.drafted(2, token) for token in (4, 5, 6, 7)]
    assert made == [[], [], [], [DraftFrom(3, (1, 12), LENGTH)]]
    (sent,) = machine.draft_ended(3)
    assert sent.message.lines == ((11, 4, 5, 6, 7), (1, 12))


def test_a_rejection_that_lands_on_a_branch_is_a_look_up() -> None:
    machine, _ = edge(sends_branches=False)
    for token in (4, 5, 6, 7):
        machine.drafted(2, token)
    commands = machine.receive(Committed(1, 0, (11,), (TokenOutcome.RECOVERED,), passes=1))
    assert machine.answer == (11, 4, 5, 6, 7)
    (draft,) = (command.message for command in commands if isinstance(command, Send))
    assert (draft.position, draft.tokens) == (1, (4, 5, 6, 7))
    (onward,) = (command for command in commands if isinstance(command, DraftFrom))
    assert onward.prefix == (11, 4, 5, 6, 7)


def test_a_branch_that_is_half_made_is_gone_on_with() -> None:
    machine, _ = edge()
    machine.drafted(2, 4)
    machine.receive(Committed(1, 0, (11,), (TokenOutcome.RECOVERED,), passes=1))
    assert machine.drafted(2, 5) == []
    machine.drafted(3, 8)
    assert machine.answer == (11, 4, 8)


def test_a_server_goes_on_from_a_branch_without_a_round_trip() -> None:
    machine = server(0, mode=ServerMode.VERIFY_ONLY, draft=(1, 2, 3))
    machine.receive(Branches(1, 0, (11, 4, 1, 12, 5), (0, 0, 2, 2, 3)))
    assert machine.prepared() == [RunPass((), (1, 2, 3))]
    assert machine.pass_finished((1, 12, 9, 9))[1:] == [RunPass((1, 12), (5,))]


def test_an_older_or_smaller_set_of_branches_changes_nothing() -> None:
    machine = server(0, mode=ServerMode.VERIFY_ONLY, draft=(1, 2))
    machine.receive(Branches(1, 0, (11, 4), (0, 0)))
    machine.receive(Branches(1, 0, (12,), (0,)))
    machine.prepared()
    assert machine.pass_finished((11, 9, 9))[1:] == [RunPass((11,), (4,))]


@pytest.mark.parametrize(
    ("tokens", "parents"),
    [
        ((), ()),
        ((1,), ()),
        ((1,), (1,)),
        ((1, 2), (0, -1)),
        ((-1,), (0,)),
        ((1,) * (MOST_BRANCH_NODES + 1), (0,) * (MOST_BRANCH_NODES + 1)),
    ],
)
def test_what_is_no_set_of_branches_is_refused(tokens, parents) -> None:
    with pytest.raises(SpecDecodeError):
        Branches(1, 0, tokens, parents)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, seed=3), Sampling(1.3, top_k=5, top_p=0.9)])
def test_the_runner_up_is_what_is_chosen_where_the_first_is_forbidden(sampling: Sampling) -> None:
    rng = np.random.default_rng(1)
    for position in range(20):
        row = rng.normal(size=30)
        (first,) = choose(row[None], position, sampling)
        second = runner_up(row, position, sampling)
        assert second is not None and second[0] != first and 0 <= second[1] <= 0.5
        if not sampling.top_k:
            row[first] = -1e9
            assert choose(row[None], position, sampling) == (second[0],)
    assert runner_up(np.zeros(5), 0, Sampling(1.0, top_k=1)) is not None  # ties with the k-th stay
    assert runner_up(np.arange(5.0), 0, Sampling(1.0, top_k=1)) is None
