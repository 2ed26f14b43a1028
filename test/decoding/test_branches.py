"""Several drafts at once: in one pass as a tree, and prepared on the edge for corrections that may come."""

from __future__ import annotations

from toys import EOS

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import RunPass, Send
from spec_decode_ros.decoding.messages import Committed, Draft, Fate, Open, ServerMode
from spec_decode_ros.decoding.tree import Tree


def server(nodes: int, *, own: int = 0, mode: ServerMode = ServerMode.STREAM, **opened) -> CloudMachine:
    machine = CloudMachine({EOS}, own=own, nodes=nodes)
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
    assert told.fates == (Fate.ACCEPTED, Fate.ACCEPTED, Fate.ACCEPTED, Fate.ADDED)
    assert (told.passes, told.drafted) == (1, 3)


def test_what_no_branch_foresaw_is_a_correction() -> None:
    machine = server(8, draft=(5, 7, 8))
    machine.receive(Draft(1, 0, (5, 6, 9)))
    machine.prepared()
    told = report(machine.pass_finished((5, 4, 9, 9, 8, 9)))
    assert (told.tokens, told.fates) == ((5, 4), (Fate.ACCEPTED, Fate.CORRECTED))


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
    assert told.fates == (Fate.ACCEPTED, Fate.ACCEPTED, Fate.ADDED)
    assert told.drafted == 3 + 2
    assert machine.pass_begins((1, 2)).tree is None
    told = report(machine.pass_finished((1, 2, 3)))
    assert set(told.fates) == {Fate.ADDED} and told.drafted == 5
