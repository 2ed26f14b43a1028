"""Token trees: several drafts that share their beginnings, judged by the target in one pass.

A rejected token of a linear draft costs everything behind it. A tree also holds what may stand there instead, so
that the pass which rejects one branch already accepts another (Miao et al., *SpecInfer*, arXiv 2305.09781; Cai et
al., *Medusa*, arXiv 2401.10774). A tree is its tokens and their parents; the attention mask and the positions follow
from these, so nothing else goes over the wire. With greedy or seeded choices the target has one choice at every
node, and the answer follows the child that equals it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spec_decode_ros.decoding.acceptance import VerificationResult, judge
from spec_decode_ros.decoding.message_checks import MAX_TOKEN_ID
from spec_decode_ros.decoding.messages import TokenOutcome
from spec_decode_ros.errors import SpecDecodeError

ROOT = -1
"""The parent of nodes that directly follow the committed tokens."""

MOST_NODES = 256
"""A larger tree is refused: its mask grows with the square."""


@dataclass(frozen=True)
class Tree:
    """Drafts of what follows the committed tokens; node i is `tokens[i]`, after node `parents[i]`.

    Parents stand before their children and no two children of a node are equal. Both tuples may come from another
    machine as they are: whatever is wrong with them is a SpecDecodeError.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("tokens", "parents"):
            object.__setattr__(self, name, _integers(name, getattr(self, name)))
        if len(self.tokens) != len(self.parents):
            raise SpecDecodeError(
                f"A tree needs one parent for each token, not {len(self.parents)} for {len(self.tokens)}."
            )
        if len(self.tokens) > MOST_NODES:
            raise SpecDecodeError(f"A tree has at most {MOST_NODES} nodes, not {len(self.tokens)}.")
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            if not 0 <= token <= MAX_TOKEN_ID:
                raise SpecDecodeError(f"A token id must be from 0 to {MAX_TOKEN_ID}, not {token}.")
            if not ROOT <= parent < node:
                raise SpecDecodeError(
                    f"The parent of node {node} must be {ROOT} or a node before it, not {parent}."
                )
        if len(self._found) < len(self.tokens):
            raise SpecDecodeError("Two children of one node of a tree must not be the same token.")

    @classmethod
    def line(cls, draft: Sequence[int]) -> Tree:
        """A draft without branches."""
        return cls(tuple(draft), tuple(range(ROOT, len(draft) - 1)))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_line(self) -> bool:
        return all(parent == node - 1 for node, parent in enumerate(self.parents))

    @functools.cached_property
    def depths(self) -> tuple[int, ...]:
        """How many nodes stand above each node; that of depth d is a draft of the d-th place after the committed."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    @functools.cached_property
    def height(self) -> int:
        """Length of the longest branch."""
        return max(self.depths, default=-1) + 1

    @functools.cached_property
    def _found(self) -> dict[tuple[int, int], int]:
        return {
            (parent, token): node
            for node, (parent, token) in enumerate(zip(self.parents, self.tokens, strict=True))
        }

    def child(self, node: int, token: int) -> int | None:
        """The child of `node` (or of ROOT) that is `token`."""
        return self._found.get((node, token))

    def children(self, node: int) -> tuple[int, ...]:
        """The children of `node` (or of ROOT), in order."""
        return tuple(child for child, parent in enumerate(self.parents) if parent == node)

    def follow(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The nodes along `tokens` from the root, as far as the tree goes."""
        nodes: list[int] = []
        at: int | None = ROOT
        for token in tokens:
            at = self.child(ROOT if at is None else at, token)
            if at is None:
                break
            nodes.append(at)
        return tuple(nodes)


def outcomes_along(drafts: Tree, tokens: Sequence[int]) -> tuple[TokenOutcome, ...]:
    """The outcomes of `tokens` that the target has just committed, where `drafts` had been made for their places."""
    nodes = drafts.follow(tokens)
    missed = TokenOutcome.RECOVERED if drafts.children(nodes[-1] if nodes else ROOT) else TokenOutcome.BONUS
    return ((TokenOutcome.ACCEPTED,) * len(nodes) + (missed,) + (TokenOutcome.BONUS,) * len(tokens))[
        : len(tokens)
    ]


def _integers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(value) for value in values)
    except TypeError as error:
        raise SpecDecodeError(
            f"The {name} of a tree must be a list of integers, not {values!r:.60}."
        ) from error


def merge(branches: Sequence[Sequence[int]], most: int) -> Tree:
    """One tree of at most `most` nodes that holds the branches, most promising first.

    Shared beginnings are stored once. Room is given out in the order of the branches, so the first one is kept
    whole if it fits, and those for which none is left are cut short.
    """
    tokens: list[int] = []
    parents: list[int] = []
    found: dict[tuple[int, int], int] = {}
    most = min(most, MOST_NODES)
    for branch in branches:
        at = ROOT
        for token in branch:
            if (at, token) not in found:
                if len(tokens) >= most:
                    break
                found[at, token] = len(tokens)
                tokens.append(token)
                parents.append(at)
            at = found[at, token]
    return Tree(tuple(tokens), tuple(parents))


def ancestors(tree: Tree) -> NDArray[np.bool_]:
    """What each node sees of the tree: (nodes, nodes), true where the column is the row's node or stands above it."""
    seen = np.eye(len(tree), dtype=np.bool_)
    for node, parent in enumerate(tree.parents):
        if parent != ROOT:
            seen[node] |= seen[parent]
    return seen


def path(tree: Tree, node: int) -> tuple[int, ...]:
    """The nodes from the root down to `node`, which is the last."""
    nodes = []
    while node != ROOT:
        nodes.append(node)
        node = tree.parents[node]
    return tuple(reversed(nodes))


def best_path(tree: Tree, choices: Sequence[int]) -> tuple[int, ...]:
    """The nodes that are the target's own choices, from the root on.

    `choices[0]` is what the target says after the committed tokens, `choices[1 + node]` what it says after a node.
    """
    if len(choices) != len(tree) + 1:
        raise ValueError(f"A pass over {len(tree)} nodes has {len(tree) + 1} choices, not {len(choices)}.")
    nodes: list[int] = []
    node = tree.child(ROOT, choices[0])
    while node is not None:
        nodes.append(node)
        node = tree.child(node, choices[1 + node])
    return tuple(nodes)


def judge_tree(
    tree: Tree, choices: Sequence[int], eos: Collection[int], room: int
) -> tuple[VerificationResult, tuple[int, ...]]:
    """What a pass over `tree` with its `len(tree) + 1` choices commits, and which nodes are among it.

    It is the result of `judge` for the branch that the target follows: its nodes are accepted, and the target's choice
    after them is a recovered token if the tree had drafts there, else a bonus token.
    """
    nodes = best_path(tree, choices)
    branch = [tree.tokens[node] for node in nodes]
    wanted = [choices[0], *(choices[1 + node] for node in nodes)]
    refused = tree.children(nodes[-1] if nodes else ROOT)
    if refused:
        branch.append(tree.tokens[refused[0]])
        wanted.append(choices[1 + refused[0]])
    verdict = judge(branch, wanted, eos, room)
    return verdict, nodes[: verdict.outcomes.count(TokenOutcome.ACCEPTED)]
