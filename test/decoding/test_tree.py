from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.decoding.acceptance import judge
from spec_decode_ros.decoding.message_checks import MAX_TOKEN_ID
from spec_decode_ros.decoding.messages import TokenOutcome
from spec_decode_ros.decoding.tree import (
    MOST_NODES,
    ROOT,
    Tree,
    ancestors,
    best_path,
    judge_tree,
    merge,
    path,
)
from spec_decode_ros.errors import SpecDecodeError

EOS = {0}
branches = st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=6)
trees = st.builds(merge, branches, st.integers(0, 20))


def target(seed: int, prefix: tuple[int, ...]) -> int:
    """A target whose choice depends on everything before it."""
    return hash((seed, *prefix)) % 5


def choices_of(tree: Tree, seed: int) -> tuple[int, ...]:
    prefixes = [(), *(tuple(tree.tokens[n] for n in path(tree, node)) for node in range(len(tree)))]
    return tuple(target(seed, prefix) for prefix in prefixes)


@given(branches, st.integers(0, 40))
def test_a_merged_tree_holds_beginnings_of_the_branches_and_nothing_else(drafts, most) -> None:
    tree = merge(drafts, most)
    assert len(tree) <= most
    beginnings = {tuple(draft[: end + 1]) for draft in drafts for end in range(len(draft))}
    held = {tuple(tree.tokens[n] for n in path(tree, node)) for node in range(len(tree))}
    assert held <= beginnings
    assert len(held) == len(tree)  # each stored once
    assert len(tree) == min(most, len(beginnings))
    if drafts:
        first = drafts[0][:most]
        assert tree.tokens[: len(first)] == tuple(first)
        assert tree.parents[: len(first)] == tuple(range(ROOT, len(first) - 1))


def test_room_is_given_out_in_the_order_of_the_branches() -> None:
    tree = merge([(1, 2, 3), (1, 4, 5), (6, 7)], 5)
    assert (tree.tokens, tree.parents) == ((1, 2, 3, 4, 5), (-1, 0, 1, 0, 3))
    # A later branch that needs no room of its own still goes on from what is there.
    assert merge([(1, 2), (1,), (9,)], 2) == Tree.line((1, 2))
    assert len(merge([range(1000)], 10**6)) == MOST_NODES


@given(trees)
def test_each_node_sees_its_branch_and_nothing_beside_it(tree) -> None:
    seen = ancestors(tree)
    assert seen.shape == (len(tree), len(tree)) and seen.dtype == np.bool_
    for node in range(len(tree)):
        above = path(tree, node)
        assert tuple(np.flatnonzero(seen[node])) == above
        assert above[-1] == node and tree.parents[above[0]] == ROOT
        assert tree.depths[node] == len(above) - 1
        assert tree.follow([tree.tokens[n] for n in above] + [9]) == above
    assert tree.height == max((len(path(tree, node)) for node in range(len(tree))), default=0)


def test_a_line_is_a_lower_triangle() -> None:
    tree = Tree.line((5, 5, 5))
    assert tree.is_line and tree.depths == (0, 1, 2)
    assert (ancestors(tree) == np.tril(np.ones((3, 3), bool))).all()
    assert Tree().is_line and not merge([(1, 2), (3,)], 9).is_line


@given(
    st.lists(st.integers(0, 4), max_size=8),
    st.lists(st.integers(0, 4), min_size=9, max_size=9),
    st.integers(0, 8),
    st.integers(1, 9),
)
def test_a_line_is_judged_like_a_draft(draft, other, agreeing, room) -> None:
    choices = [*draft[:agreeing], *other][: len(draft) + 1]
    verdict, kept = judge_tree(Tree.line(draft), choices, EOS, room)
    assert verdict == judge(draft, choices, EOS, room)
    assert kept == tuple(range(verdict.outcomes.count(TokenOutcome.ACCEPTED)))


@given(trees, st.integers(0, 10**6), st.integers(1, 9))
def test_a_verdict_is_what_the_target_would_have_said_alone(tree, seed, room) -> None:
    verdict, kept = judge_tree(tree, choices_of(tree, seed), EOS, room)
    alone: list[int] = []
    while len(alone) < len(verdict.tokens):
        assert not alone or alone[-1] not in EOS
        alone.append(target(seed, tuple(alone)))
    assert verdict.tokens == tuple(alone)
    assert verdict.done == (len(alone) == room or alone[-1] in EOS)
    assert tuple(tree.tokens[node] for node in kept) == verdict.tokens[: len(kept)]
    assert not kept or kept == path(tree, kept[-1])
    assert verdict.outcomes[: len(kept)] == (TokenOutcome.ACCEPTED,) * len(kept)
    if len(kept) < len(verdict.tokens):
        guesses = tree.children(kept[-1] if kept else ROOT)
        assert verdict.outcomes[len(kept) :] == (TokenOutcome.RECOVERED if guesses else TokenOutcome.BONUS,)
        assert verdict.tokens[-1] not in {tree.tokens[node] for node in guesses}


@given(branches, st.integers(0, 10**6))
def test_a_tree_accepts_as_much_as_the_best_of_its_branches(drafts, seed) -> None:
    tree = merge(drafts, MOST_NODES)
    kept = best_path(tree, choices_of(tree, seed))
    lengths = []
    for draft in drafts:
        choices = [target(seed, tuple(draft[:end])) for end in range(len(draft) + 1)]
        lengths.append(judge(draft, choices, (), 99).outcomes.count(TokenOutcome.ACCEPTED))
    assert len(kept) == max(lengths, default=0)


def test_another_branch_is_taken_where_the_first_is_wrong() -> None:
    tree = merge([(1, 2, 3), (1, 4, 5)], 9)
    assert tree.tokens == (1, 2, 3, 4, 5)
    verdict, kept = judge_tree(tree, (1, 4, 0, 0, 5, 6), EOS, 9)
    assert (verdict.tokens, kept) == ((1, 4, 5, 6), (0, 3, 4))
    assert verdict.outcomes == (TokenOutcome.ACCEPTED,) * 3 + (TokenOutcome.BONUS,)
    verdict, kept = judge_tree(tree, (1, 9, 0, 0, 5, 6), EOS, 9)
    assert (verdict.tokens, verdict.outcomes, kept) == (
        (1, 9),
        (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED),
        (0,),
    )


def test_what_stands_behind_the_end_or_beyond_the_room_is_not_kept() -> None:
    tree = merge([(1, 0, 3), (1, 2)], 9)
    verdict, kept = judge_tree(tree, (1, 0, 3, 4, 5), EOS, 9)
    assert (verdict.tokens, verdict.done, kept) == ((1, 0), True, (0, 1))
    verdict, kept = judge_tree(tree, (1, 2, 3, 4, 5), EOS, 1)
    assert (verdict.tokens, verdict.done, kept) == ((1,), True, (0,))


def test_an_empty_tree_adds_one_token() -> None:
    verdict, kept = judge_tree(Tree(), (7,), EOS, 9)
    assert (verdict, kept) == (judge((), (7,), EOS, 9), ())


def test_a_pass_with_the_wrong_number_of_choices_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 nodes has 3 choices, not 2"):
        judge_tree(Tree.line((1, 2)), (1, 2), EOS, 9)


@pytest.mark.parametrize(
    ("tokens", "parents", "sentence"),
    [
        ((1, 2), (-1,), "one parent for each token, not 1 for 2"),
        ((1, 2), (-1, 1), "parent of node 1 must be -1 or a node before it, not 1"),
        ((1,), (-2,), "parent of node 0 must be -1 or a node before it, not -2"),
        ((-1,), (-1,), "token id must be from 0 to"),
        ((MAX_TOKEN_ID + 1,), (-1,), "token id must be from 0 to"),
        ((1, 2, 1), (-1, 0, -1), "Two children of one node"),
        ((1.0,), (-1,), "must be a list of integers"),
        (None, (), "must be a list of integers"),
        (("1",), (-1,), "must be a list of integers"),
        (range(MOST_NODES + 1), range(-1, MOST_NODES), f"at most {MOST_NODES} nodes"),
    ],
)
def test_a_damaged_tree_is_refused_in_one_sentence(tokens, parents, sentence) -> None:
    with pytest.raises(SpecDecodeError, match=sentence) as caught:
        Tree(tokens, parents)
    assert str(caught.value).count(". ") == 0 and len(str(caught.value)) < 200


def test_numpy_integers_and_lists_are_taken() -> None:
    assert Tree(list(np.array([1, 2])), [np.int32(-1), np.int32(0)]) == Tree.line((1, 2))
    assert len(Tree(range(MOST_NODES), [ROOT] * MOST_NODES)) == MOST_NODES
