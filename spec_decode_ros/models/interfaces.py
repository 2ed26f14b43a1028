"""The two small interfaces through which everything else reaches a model.

A *drafter* runs on the robot and proposes answer tokens one at a time; a *verifier* runs in the cloud and says what
the target model itself would have chosen, for many positions in one forward pass. Token ids belong to one shared
vocabulary; an answer never includes the prompt, and position 0 is the first answer token.

Calls on one drafter or verifier and its sessions are not thread-safe: one thread at a time drives a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from spec_decode_ros.decoding.messages import Sampling

if TYPE_CHECKING:
    from spec_decode_ros.decoding.distribution import Distribution
    from spec_decode_ros.decoding.rejection import DraftedToken
    from spec_decode_ros.decoding.tree import Tree
    from spec_decode_ros.models.exits import ExitFigures

GREEDY = Sampling()

OnEarly = Callable[[tuple[int, ...], tuple[float, ...]], None]
"""Called with the choices of an early exit and how sure it is of each, from 0 to 1."""


@runtime_checkable
class TextCodec(Protocol):
    """What both sides of a pair can do with text."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Token ids that end an answer."""
        ...

    @property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer's vocabulary; equal fingerprints mean exchangeable token ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Answer text to token ids, without special tokens."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to answer text, special tokens (such as the end of the answer) left out."""
        ...


@runtime_checkable
class DraftSession(Protocol):
    """One prompt with its images, opened on the draft model."""

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Yield the draft model's answer tokens that follow `prefix`, one at a time, the end token included.

        The iterator stops after an end token or when the model's context is full. It may be abandoned after any
        token; a later call with another prefix rolls the caches back to what both share. Starting a new iterator
        invalidates the older one.
        """
        ...

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        """As `draft`, for separate rejection sampling: each token with the distribution that it was drawn from."""
        ...

    @property
    def runner_up(self) -> tuple[int, float] | None:
        """What would have come second in the place of the newest token, and its probability beside it, from 0 to 0.5."""
        ...

    def close(self) -> None:
        """Free the caches. Closing twice does nothing."""
        ...


@runtime_checkable
class Drafter(TextCodec, Protocol):
    """The small model on the robot."""

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> DraftSession:
        """Begin an answer to `prompt` about `images` (JPEG bytes). The prompt is processed by the first draft."""
        ...


@runtime_checkable
class SharedDrafter(Drafter, Protocol):
    """A drafter that makes several drafts in the same passes."""

    @property
    def bytes_per_token(self) -> int | None:
        """As of a `Verifier`."""
        ...

    def reserve(self, sessions: int, tokens: int) -> None:
        """As of a `Verifier`."""
        ...

    def open_many(self, prompts: Sequence[tuple[str, Sequence[bytes]]]) -> Sequence[DraftSession | Exception]:
        """`open` for several at once; in the place of one that cannot be opened, why."""
        ...

    def draft_many(
        self, parts: Sequence[tuple[Any, Sequence[int], Sampling]], count: int
    ) -> Sequence[Sequence[int] | Exception]:
        """The first `count` tokens of `DraftSession.draft` for several different sessions of this drafter.

        Each part is a session, the prefix and the sampling. Fewer tokens where an answer ends; in the place of a draft
        that cannot be made, why.
        """
        ...


@runtime_checkable
class VerifySession(Protocol):
    """One prompt with its images, prepared on the target model."""

    @property
    def answer_room(self) -> int:
        """How many tokens of answer and draft fit into the context behind the prompt."""
        ...

    @property
    def unread(self) -> int:
        """How many tokens of the prompt no pass has taken in yet; they come first in the next pass."""
        ...

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        sampling: Sampling,
        on_early: OnEarly | None = None,
    ) -> tuple[int, ...]:
        """Return the target's own choices, `len(draft) + 1` of them.

        Element i is the choice at position `len(committed) + i`, given `committed + draft[:i]`. It is what the target
        alone would say as long as `draft[:i]` was chosen too; past the first difference it is a by-product to ignore.
        The first call processes the prompt and the draft in the same pass. `committed` may have grown, shrunk or
        changed since the last call; whatever the caches share with it is reused.

        A target with early exits calls `on_early` each time the pass comes through one, on this thread, before the
        pass goes on: with the exit's choices for the same `len(draft) + 1` positions, made by the same `sampling`, and
        with how sure it is of each, the probability from 0 to 1 that the exit gives to its choice. The result is the
        same with and without.
        """
        ...

    def distributions(
        self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling
    ) -> tuple[Distribution, ...]:
        """For separate rejection sampling: the target's warped distributions in the places of `verify`'s choices."""
        ...

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        """Up to `count` tokens after `committed`, written with the layers up to an early exit only.

        Self-speculative decoding (LayerSkip, arXiv 2404.16710), for a server without a draft model: fewer tokens at an
        end token or where the context is full. The next `verify` is as if this had not happened. Before the first one
        it takes the prompt through these layers too. Raises SpecDecodeError where `Verifier.self_drafting` is None.
        """
        ...

    @property
    def can_verify_trees(self) -> bool:
        """Whether the target's architecture takes a token tree in one pass."""
        ...

    def verify_tree(self, committed: Sequence[int], tree: Tree, sampling: Sampling) -> tuple[int, ...]:
        """Return the target's own choices, `len(tree) + 1` of them, for several drafts in one pass.

        Element 0 is the choice after `committed`, element 1 + i that after node i, given `committed` and the branch
        that ends in the node: what `verify` says with that branch as its draft. The first call processes the prompt
        in the same pass. If the next call's `committed` goes on along a branch of the tree, that branch is not
        computed again. Raises SpecDecodeError where `can_verify_trees` is false.
        """
        ...

    def close(self) -> None:
        """Free the caches. Closing twice does nothing."""
        ...


@dataclass(frozen=True)
class ForwardInput:
    """What one session has in a pass that several share.

    As in `VerifySession.verify`, with `tree` instead of `draft` as in `verify_tree`, and for a `sampling` that is
    `separate` as in `distributions`. With `prefill` only so many of the session's `unread` tokens are taken in, and
    nothing is chosen.
    """

    session: VerifySession
    committed: Sequence[int] = ()
    draft: Sequence[int] = ()
    sampling: Sampling = GREEDY
    tree: Tree | None = None
    on_early: OnEarly | None = None
    prefill: int = 0

    @property
    def width(self) -> int:
        """How many tokens it puts into the pass, where the caches hold all but the last of what is committed."""
        return self.prefill or self.session.unread + 1 + len(self.tree or self.draft)


Choices = tuple[int, ...] | tuple["Distribution", ...]


class SelfDrafting(NamedTuple):
    """Drafting by a target itself, with its layers up to an early exit.

    `share` of the layers that one token runs through, and `agreement`, the share of tokens that the target confirms.
    """

    share: float
    agreement: float


@runtime_checkable
class Verifier(TextCodec, Protocol):
    """The large model in the cloud; any number of sessions may be open at once."""

    @property
    def exits(self) -> Sequence[ExitFigures]:
        """The target's early exits, in the order in which a pass comes through them; often none."""
        ...

    @property
    def self_drafting(self) -> SelfDrafting | None:
        """What `VerifySession.self_draft` costs and is worth; None where the target cannot do that."""
        ...

    @property
    def can_verify_trees(self) -> bool:
        """Whether the target's architecture takes a token tree in one pass."""
        ...

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> VerifySession:
        """Tokenise `prompt`, preprocess `images` (JPEG bytes) and run the vision tower."""
        ...

    @property
    def bytes_per_token(self) -> int | None:
        """What one token takes in the memory of a session; None where no memory can be reserved."""
        ...

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate the memory of so many sessions, each of so many tokens of prompt, answer and draft; no session gets more.

        Raises SpecDecodeError where `bytes_per_token` is None.
        """
        ...

    def prepare_many(
        self, prompts: Sequence[tuple[str, Sequence[bytes]]]
    ) -> Sequence[VerifySession | Exception]:
        """`prepare` for several at once; in the place of one that cannot be prepared, why."""
        ...

    def verify_many(self, parts: Sequence[ForwardInput]) -> Sequence[Choices | Exception]:
        """One pass over the parts of several different sessions; for each what it would get alone, or why it failed.

        In float32 the token ids are those of the session alone. A part that cannot be computed does not harm the others.
        """
        ...
