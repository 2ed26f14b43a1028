"""Branches that the edge prepares while it waits, and what a server makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import EOS

from spec_decode_ros.decoding.branches import BRANCH_TOKENS, PreparedBranches
from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import DraftFrom, RunPass, Send
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import (
    MAX_BRANCH_NODES,
    Branches,
    Committed,
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


def noted(most: int, *chances: float) -> PreparedBranches:
    """Second choices of the draft 1, 2, 3, ...: each is its token plus 10."""
    prepared = PreparedBranches(most, 20, {EOS})
    for place, probability in enumerate(chances):
        prepared.note(tuple(range(1, place + 1)), (place + 11, probability))
    return prepared


def test_early_places_come_first_where_all_are_equally_unsure() -> None:
    prepared, places = noted(2, 0.2, 0.2, 0.2), []
    while (begun := prepared.begin((), (1, 2, 3))) is not None:
        places.append(begun)
        prepared.stop()
    assert places == [((11,), BRANCH_TOKENS), ((1, 12), BRANCH_TOKENS)]


def test_a_place_where_the_draft_model_hesitated_comes_before_earlier_ones() -> None:
    assert noted(1, 0.01, 0.4, 0.45).begin((), (1, 2, 3)) == ((1, 12), BRANCH_TOKENS)
    assert noted(1, 0.01, 0.4, 0.45).begin((1, 2), (3,)) == ((1, 2, 13), BRANCH_TOKENS)
    assert noted(1, 0.2).begin((), ()) is None
    assert noted(0, 0.2).begin((), (1,)) is None


def test_what_is_prepared_is_found_by_its_text_until_it_is_overtaken() -> None:
    prepared = noted(1, 0.01, 0.2)
    prepared.begin((), (1, 2))
    assert not prepared.append(5, None)
    assert not prepared.append(6, None)
    assert prepared.take((1, 12)) == (5, 6)
    assert prepared.take((1,)) == prepared.take((2, 12)) == ()
    assert prepared.used == 1
    assert prepared.tree((1,)) == Tree.line((12, 5, 6))
    prepared.forget((1, 2))
    assert prepared.take((1, 12)) == ()


def test_a_branch_ends_with_its_budget_or_an_end_token() -> None:
    prepared = noted(1, 0.2)
    prepared.begin((), (1,))
    assert [prepared.append(token, None) for token in (4, 5, 6, 7)] == [False, False, False, True]
    prepared = noted(1, 0.2)
    prepared.begin((), (1,))
    assert prepared.append(EOS, None)


def edge() -> tuple[EdgeMachine, list]:
    """An edge that has drafted 1, 2, 3 with 11, 12, 13 as second choices, and what it then commands."""
    machine = EdgeMachine(replace(METHODS["auto"], branches=2), Request(1, "p", max_tokens=12), {EOS})
    machine.start(0.0)
    for token in (1, 2, 3):
        machine.drafted(1, token, (token + 10, 0.2))
    return machine, machine.drafted(1, EOS)


def test_the_edge_prepares_while_it_waits_and_sends_what_it_has() -> None:
    machine, commands = edge()
    assert commands[-1] == DraftFrom(2, (11,), BRANCH_TOKENS)
    for token in (4, 5, 6):
        assert machine.drafted(2, token) == []
    sent, following = machine.drafted(2, 7)
    assert sent == Send(Branches(1, 0, (11, 4, 5, 6, 7), (0, 0, 1, 2, 3)))
    assert following == DraftFrom(3, (1, 12), BRANCH_TOKENS)
    assert machine.draft_ended(3)[0].message.lines == ((11, 4, 5, 6, 7), (1, 12))


def test_a_rejection_that_lands_on_a_branch_is_a_look_up() -> None:
    machine, _ = edge()
    for token in (4, 5, 6, 7):
        machine.drafted(2, token)
    commands = machine.receive(Committed(1, 0, (11,), (TokenOutcome.RECOVERED,), passes=1))
    assert machine.answer == (11, 4, 5, 6, 7)
    draft, *_ = (command.message for command in commands if isinstance(command, Send))
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


def server(draft: tuple[int, ...]) -> CloudMachine:
    machine = CloudMachine({EOS})
    machine.receive(Open(1, "p", mode=ServerMode.VERIFY_ONLY, draft=draft))
    return machine


def test_a_server_goes_on_from_a_branch_without_a_round_trip() -> None:
    machine = server((1, 2, 3))
    machine.receive(Branches(1, 0, (11, 4, 1, 12, 5), (0, 0, 2, 2, 3)))
    assert machine.prepared() == [RunPass((), (1, 2, 3))]
    assert machine.pass_finished((1, 12, 9, 9))[1:] == [RunPass((1, 12), (5,))]


def test_an_older_or_smaller_set_of_branches_changes_nothing() -> None:
    machine = server((1, 2))
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
        ((1,) * (MAX_BRANCH_NODES + 1), (0,) * (MAX_BRANCH_NODES + 1)),
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
