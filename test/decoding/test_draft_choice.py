"""Which draft a pass is over, where the server could also draft by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import EOS

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import RunPass
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.messages import Branches, Draft, Open, ServerMode
from spec_decode_ros.decoding.tree import Tree

OWN = 4
MEASURED = Measurements(
    rtt_ms=0.0,
    draft_ms=1.0,
    step_ms=10.0,
    acceptance=0.8,
    per_token_ms=0.1,
    server_draft_ms=1.0,
    stale_acceptance=0.2,
)
"""Four of its own tokens cost the server 4.3 ms a token."""


def server(
    measured: Measurements | None = MEASURED,
    last: tuple[int, ...] = (),
    mode: ServerMode = ServerMode.SELF_DRAFT,
    **options: int,
) -> CloudMachine:
    """One that drafts by itself, and is about to make its first pass."""
    machine = CloudMachine({EOS}, server_draft_tokens=OWN, measured=measured, **options)
    machine.receive(Open(1, "p", mode=mode, draft=last, max_tokens=20))
    machine.prepared()
    return machine


@pytest.mark.parametrize(
    ("wild", "mode", "expected"),
    [
        (0.9, ServerMode.SELF_DRAFT, RunPass((5, 4), (7, 8, 9))),
        (0.2, ServerMode.SELF_DRAFT, RunPass((5, 4), (), server_tokens=OWN)),
        (0.2, ServerMode.STREAM, RunPass((5, 4), (7, 8, 9))),
        (0.9, ServerMode.VERIFY_ONLY, None),
    ],
)
def test_a_server_that_drafts_guesses_from_a_refuted_draft_where_that_is_better(
    wild: float, mode: ServerMode, expected: RunPass | None
) -> None:
    machine = server(replace(MEASURED, stale_acceptance=wild), last=(5, 6, 7, 8, 9), mode=mode)
    _, *more = machine.pass_finished((5, 4, 1, 1, 1, 1))
    assert more == ([] if expected is None else [expected])


def test_without_measurements_a_draft_that_is_there_is_better() -> None:
    machine = server(None, last=(5, 6, 7, 8))
    assert machine.pass_finished((5, 4, 1, 1, 1))[1:] == [RunPass((5, 4), (7, 8))]


def test_one_token_of_the_edge_does_not_displace_better_ones_of_the_server() -> None:
    machine = server(last=(5, 6, 7))
    assert machine.pass_finished((5, 4, 1, 1))[1:] == [RunPass((5, 4), (), server_tokens=OWN)]
    machine.receive(Draft(1, 2, (2,)))
    assert not machine.has_draft
    assert machine.pass_begins((2, 3, 9, 9)) == RunPass((5, 4), (2, 3, 9, 9))
    machine.receive(Draft(1, 2, (2, 3, 8)))
    assert machine.pass_finished((2, 3, 7, 1, 1))[1:] == [RunPass((5, 4, 2, 3, 7), (), server_tokens=OWN)]
    assert machine.server_draft_judged == (3, 2)
    assert machine.counts == (2, 3 + 1, 1 + 1), "the edge had said the first one too"
    machine.receive(Draft(1, 5, (1, 2, 3, 4)))
    assert machine.has_draft
    assert machine.pass_begins((1, 2, 3, 9)) == RunPass((5, 4, 2, 3, 7), (1, 2, 3, 4))


def test_with_the_prompt_goes_what_has_come_by_then() -> None:
    machine = CloudMachine({EOS}, server_draft_tokens=OWN, measured=MEASURED)
    machine.receive(Open(1, "p", mode=ServerMode.SELF_DRAFT, draft=(5,), max_tokens=20))
    assert machine.prepared() == [RunPass((), (5,))]


def test_the_last_token_of_an_answer_is_as_good_as_any_draft() -> None:
    machine = server(last=(5,))
    machine.receive(Draft(1, 0, (5, 6, EOS)))
    assert machine.pass_finished((5, 6))[1:] == [RunPass((5, 6), (EOS,))]


def test_a_token_of_the_edge_is_asked_about_together_with_the_servers_own_draft() -> None:
    machine = server(last=(5,))
    machine.receive(Draft(1, 0, (5, 6, 7)))
    assert machine.pass_finished((5, 6))[1:] == [RunPass((5, 6), (7,), server_tokens=OWN)]
    assert machine.pass_begins((EOS,)) == RunPass((5, 6), (7,)), "one token each: the one that cost nothing"


def test_a_server_whose_own_draft_fails_verifies_the_edges() -> None:
    machine = server(last=(5,))
    machine.receive(Draft(1, 0, (5, 6, 7)))
    machine.pass_finished((5, 6))
    assert machine.pass_begins(()) == RunPass((5, 6), (7,))


def test_who_yields_verifies_the_edges_draft_however_short_and_makes_none() -> None:
    machine = CloudMachine({EOS}, server_draft_tokens=OWN, measured=MEASURED)
    machine.receive(Open(1, "p", mode=ServerMode.SELF_DRAFT, draft=(5,), yields=True, max_tokens=20))
    machine.prepared()
    machine.receive(Draft(1, 0, (5, 6, 7)))
    machine.others_wait(True)
    assert machine.pass_finished((5, 6))[1:] == [RunPass((5, 6), (7,))]
    assert machine.pass_finished((8, 1))[1:] == []
    assert machine.others_wait(False) == [RunPass((5, 6, 8), (), server_tokens=OWN)]


@pytest.mark.parametrize(("wild", "own"), [(0.95, 0), (0.2, OWN)])
def test_a_draft_that_was_wrong_twice_running_is_waited_for_where_it_is_worth_it(
    wild: float, own: int
) -> None:
    machine = server(replace(MEASURED, stale_acceptance=wild), last=(5, 6, 7, 8, 9, 10, 11))
    machine.pass_finished((4, 1, 1, 1, 1, 1, 1, 1))
    assert machine.pass_begins().draft == ((6, 7, 8, 9, 10, 11) if wild > 0.9 else ())
    assert machine.pass_finished((3, *(1,) * len(machine.pass_begins().draft)))[1:] == [
        RunPass((4, 3), (), server_tokens=own)
    ]
    if not own:
        assert machine.pass_finished((7,))[1:] == [RunPass((4, 3, 7), (8, 9, 10, 11))]


def test_whoever_drafts_is_drafted_for_only_where_that_is_better_than_a_token_more() -> None:
    """As on a server whose passes many share: all of them would wait."""
    machine = server(
        replace(MEASURED, server_draft_ms=10.0, stale_acceptance=0.0), last=(5, 6, 7), stale_tokens=0
    )
    assert machine.pass_finished((4, 1, 1, 1))[1:] == [RunPass((4,), ())]
    alone = server(replace(MEASURED, server_draft_ms=10.0), stale_tokens=0)
    assert alone.pass_finished((4,))[1:] == [RunPass((4,), (), server_tokens=OWN)]


def test_refuted_drafts_are_judged_also_where_the_pass_is_over_others() -> None:
    machine = server(last=(5, 6, 7, 8, 9))
    assert machine.pass_finished((5, 4, 1, 1, 1, 1))[1:] == [RunPass((5, 4), (), server_tokens=OWN)]
    assert machine.stale_judged == (0, 0)
    machine.pass_begins((7, 8, 2, 2))
    machine.pass_finished((7, 8, 3, 1, 1))
    assert machine.stale_judged == (3, 2)


def test_alternatives_to_the_servers_draft_and_the_edges_tokens_are_counted_apart() -> None:
    machine = server(replace(MEASURED, stale_acceptance=0.0), last=(5, 6, 7))
    assert machine.pass_finished((4, 9, 9, 9))[1:] == [RunPass((4,), (), server_tokens=OWN)]
    tree = Tree((8, 7, 6), (-1, 0, -1))
    assert machine.pass_begins((8, 7), [(6,)]) == RunPass((4,), (8, 7), tree=tree)
    sent, *_ = machine.pass_finished((6, 9, 9, 7))
    assert sent.message.tokens == (6, 7), "the second choice was right, and the target goes on after it"
    assert machine.server_draft_judged == (1, 0)


def test_a_prepared_branch_that_agrees_goes_before_stale_drafts() -> None:
    machine = server(None, last=(5, 6, 7, 8), mode=ServerMode.STREAM)
    machine.receive(Branches(1, 0, (5, 4, 1), (0, 0, 1)))
    assert machine.pass_finished((5, 4, 9, 9, 9))[1:] == [RunPass((5, 4), (1,))]
