"""The interfaces of the two models: a drafter and a verifier, each with sessions.

A *drafter* runs on the robot and proposes answer tokens one at a time; a *verifier* runs in the cloud and says what
the target model itself would have chosen, for many positions in one forward pass. Token ids belong to one shared
vocabulary; an answer never includes the prompt, and position 0 is the first answer token.

Calls on one drafter or verifier and its sessions are not thread-safe: one thread at a time drives a model.

Calls for several sessions return, in the place of what could not be made, the exception that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError

GREEDY = Sampling()

OnEarly = Callable[[tuple[int, ...], tuple[float, ...]], None]
"""Called with the choices of an early exit and the confidence in each, from 0 to 1."""

Choices = tuple[int, ...] | tuple[Distribution, ...]

PromptWithImages = tuple[str, Sequence[bytes]]
"""A prompt and its images as JPEG bytes."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def try_each(do: Callable[[Item], Made], items: Iterable[Item]) -> list[Made | Exception]:
    """`do` for each item; in the place of a failure, the exception."""
    made: list[Made | Exception] = []
    for item in items:
        try:
            made.append(do(item))
        except Exception as error:
            made.append(error)
    return made


def only(made: Sequence[Made | Exception]) -> Made:
    """The result of a call for one session alone; raises it if it is an exception."""
    (result,) = made
    if isinstance(result, Exception):
        raise result
    return result


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

    @property
    def grammar(self) -> str:
        """Fingerprint of the grammar that all answers follow; empty where they are free."""
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
        """The second choice in the place of the newest token, and its probability beside it, from 0 to 0.5."""
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


class SharedModel(Protocol):
    """A model whose sessions' memory can be reserved."""

    @property
    def bytes_per_token(self) -> int | None:
        """Memory of one token in a session's cache; None where no memory can be reserved."""
        ...

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate the memory of so many sessions, each of so many tokens of prompt, answer and draft; no session gets more.

        Raises SpecDecodeError where `bytes_per_token` is None.
        """
        ...


@runtime_checkable
class SharedDrafter(Drafter, SharedModel, Protocol):
    """A drafter that makes several drafts in the same passes."""

    def open_many(self, prompts: Sequence[PromptWithImages]) -> Sequence[DraftSession | Exception]:
        """`open` for several at once."""
        ...

    def draft_many(
        self, requests: Sequence[tuple[Any, Sequence[int], Sampling]], count: int
    ) -> Sequence[Sequence[int] | Exception]:
        """The first `count` tokens of `DraftSession.draft` for several different sessions of this drafter.

        Each request is a session, the prefix and the sampling. Fewer tokens where an answer ends.
        """
        ...


@dataclass(frozen=True)
class ForwardInput:
    """What one session puts into a forward pass: `draft` or `tree` to verify behind `committed`.

    For a `sampling` that is `separate` the result is distributions instead of choices. With `prefill` only so many of
    the session's prompt tokens are prefilled, and nothing is chosen.
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
        """Its tokens in the pass, where the caches hold all but the last committed one."""
        return self.prefill or self.session.not_prefilled + 1 + len(self.tree or self.draft)


@runtime_checkable
class VerifySession(Protocol):
    """One prompt with its images, prepared on the target model."""

    verifier: Verifier

    @property
    def answer_room(self) -> int:
        """How many tokens of answer and draft fit into the context behind the prompt."""
        ...

    @property
    def not_prefilled(self) -> int:
        """How many tokens of the prompt are not prefilled yet; they come first in the next pass."""
        ...

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        """Up to `count` tokens after `committed`, drafted with the layers up to an early exit only.

        Self-speculative decoding (LayerSkip, arXiv 2404.16710), for a server without a draft model: fewer tokens at an
        end token or where the context is full. The next pass is as if this had not happened. Before the first one the
        prompt goes through these layers too. Raises SpecDecodeError where `Verifier.self_drafting` is None.
        """
        ...

    def jump_forward(self, committed: Sequence[int]) -> tuple[int, ...]:
        """The tokens that the grammar lets follow `committed` and nothing else; mostly none."""
        ...

    def close(self) -> None:
        """Free the caches. Closing twice does nothing."""
        ...

    # ---- passes over this session alone -----------------------------------------------------------------------

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
        with the probability from 0 to 1 that the exit gives to each. The result is the same with and without.
        """
        return self._pass(ForwardInput(self, committed, draft, sampling, on_early=on_early))

    def verify_tree(self, committed: Sequence[int], tree: Tree, sampling: Sampling) -> tuple[int, ...]:
        """Return the target's own choices, `len(tree) + 1` of them, for several drafts in one pass.

        Element 0 is the choice after `committed`, element 1 + i that after node i, given `committed` and the branch
        that ends in the node: what `verify` says with that branch as its draft. If the next call's `committed` goes on
        along a branch of the tree, that branch is not computed again. Raises SpecDecodeError where
        `Verifier.can_verify_trees` is false.
        """
        return self._pass(ForwardInput(self, committed, (), sampling, tree))

    def distributions(
        self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling
    ) -> tuple[Distribution, ...]:
        """For separate rejection sampling: the target's warped distributions in the places of `verify`'s choices."""
        return self._pass(ForwardInput(self, committed, draft, sampling))

    def _pass(self, forward_input: ForwardInput) -> Any:
        return only(self.verifier.verify_many([forward_input]))


class SelfDrafting(NamedTuple):
    """Drafting by a target itself, with its layers up to an early exit.

    `share` of the layers that one token runs through, and `agreement`, the share of tokens that the target confirms.
    """

    share: float
    agreement: float


@dataclass(frozen=True)
class ExitFigures:
    """The quality of one early exit, measured on held-out answers.

    Attributes:
        layer: the decoder layer that it comes after, from 0.
        threshold: confidence from which on it counts as sure.
        agreement: share of all tokens in which it agrees with the target's final choice.
        sure_agreement: the same among the tokens of which it is sure.
        sure_share: share of the tokens of which it is sure.
    """

    layer: int
    threshold: float
    agreement: float
    sure_agreement: float
    sure_share: float

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise SpecDecodeError(f"an exit's layer must be a count from 0, not {self.layer!r}")
        for name in ("threshold", "agreement", "sure_agreement", "sure_share"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise SpecDecodeError(
                    f"{name} of the exit after layer {self.layer} must be from 0 to 1, not {value!r}"
                )


@runtime_checkable
class Verifier(TextCodec, SharedModel, Protocol):
    """The large model in the cloud; any number of sessions may be open at once."""

    @property
    def exits(self) -> Sequence[ExitFigures]:
        """The target's early exits, in the order in which a pass comes through them; often none."""
        ...

    @property
    def self_drafting(self) -> SelfDrafting | None:
        """Cost and quality of `VerifySession.self_draft`; None where the target cannot do that."""
        ...

    @property
    def can_verify_trees(self) -> bool:
        """Whether the target's architecture takes a token tree in one pass."""
        ...

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> VerifySession:
        """Tokenise `prompt`, preprocess `images` (JPEG bytes) and run the vision encoder."""
        return only(self.prepare_many([(prompt, images)]))

    def prepare_many(self, prompts: Sequence[PromptWithImages]) -> Sequence[VerifySession | Exception]:
        """`prepare` for several at once."""
        ...

    def verify_many(self, inputs: Sequence[ForwardInput]) -> Sequence[Choices | Exception]:
        """One pass over the inputs of several different sessions.

        In float32 the token ids are those of each session alone. An input that cannot be computed does not harm the
        others.
        """
        ...
