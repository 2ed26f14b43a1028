"""A draft and a target model that compute their tokens by hashing: deterministic, different in every context."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from spec_decode_ros.decoding.distribution import Distribution, warped
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken, draft_token
from spec_decode_ros.decoding.tree import Tree, path
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import (
    Choices,
    ExitFigures,
    ForwardInput,
    OnEarly,
    SelfDrafting,
    VerifySession,
    try_each,
)

EOS = 0
VOCABULARY = 50


def token_after(context: bytes, prefix: Sequence[int], seed: int, longest: int = 12) -> int:
    """The target's token: any of 49 words, and the end more and more likely towards `longest`."""
    digest = hashlib.sha256(repr((context, tuple(prefix), seed)).encode()).digest()
    if len(prefix) >= 4 and digest[0] % max(1, longest - len(prefix)) == 0:
        return EOS
    return 1 + digest[1] % (VOCABULARY - 1)


def toy_logits(context: bytes, prefix: Sequence[int]) -> np.ndarray:
    """The target's logits (50,) for separate rejection sampling, in which the end grows likelier."""
    digest = hashlib.sha256(repr((context, tuple(prefix))).encode()).digest()
    logits = np.random.default_rng(list(digest)).normal(size=VOCABULARY) * 2.0
    logits[EOS] = len(prefix) / 2.0 if len(prefix) >= 4 else -9.0
    return logits


def context_of(prompt: str, images: Sequence[bytes]) -> bytes:
    return hashlib.sha256(prompt.encode() + b"".join(images)).digest()


def target_answer(
    prompt: str, images: Sequence[bytes] = (), sampling: Sampling | None = None, max_tokens: int = 64
) -> tuple[int, ...]:
    """What the target alone says."""
    tokens: list[int] = []
    while len(tokens) < max_tokens and EOS not in tokens:
        tokens.append(token_after(context_of(prompt, images), tokens, (sampling or Sampling()).seed))
    return tuple(tokens)


class ToyText:
    eos_ids = frozenset({EOS})
    vocabulary = "toy-50"
    grammar = ""

    def encode(self, text: str) -> list[int]:
        return [int(word[1:]) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(f"w{token}" for token in tokens if token != EOS)


class ToyVerifier(ToyText):
    """Takes `pass_s` for a pass and notes what it was asked; a prompt with ``explode`` fails.

    With `foresees`, an early exit in the middle of a pass says what the pass will, wrong where `foresees` is false.
    """

    def __init__(self, pass_s: float = 0.0, foresees: Callable[[int], bool] | None = None) -> None:
        self.can_verify_trees = True
        self.trees = 0
        self.pass_s = pass_s
        self.foresees = foresees
        self.exits: tuple[object, ...] = ()
        if foresees:
            self.exits = (ExitFigures(1, 0.9, 0.9, 0.95, 0.9),)
        self.self_drafting = SelfDrafting(0.5, 0.9) if foresees else None
        self.self_drafted = 0
        self.passes: list[tuple[str, int, int]] = []
        self.threads: set[str] = set()
        self.open = 0
        self.prompt_tokens = 0
        self.shared: list[tuple[tuple[str, int], ...]] = []
        """Of every pass, whose prompts took part in it, and how many tokens of prompt were only read."""
        self.gate: threading.Event | None = None
        """If set, every pass waits for it (at most ten seconds)."""
        self.gates: dict[str, threading.Event] = {}
        """The same for passes of one prompt."""

    bytes_per_token: int | None = None

    def reserve(self, sessions: int, tokens: int) -> None:
        assert self.bytes_per_token is not None
        self.reserved = (sessions, tokens)

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> ToyVerifySession:
        self.threads.add(threading.current_thread().name)
        if "unreadable" in prompt:
            raise SpecDecodeError("The image can't be read; send a JPEG.")
        self.open += 1
        return ToyVerifySession(self, prompt, images)

    def prepare_many(
        self, prompts: Sequence[tuple[str, Sequence[bytes]]]
    ) -> Sequence[VerifySession | Exception]:
        return try_each(lambda prompt: self.prepare(*prompt), prompts)

    def verify_many(self, inputs: Sequence[ForwardInput]) -> Sequence[Choices | Exception]:
        sessions = [each.session for each in inputs]
        assert len(set(map(id, sessions))) == len(sessions)
        self.shared.append(tuple((each.session.prompt, each.prefill) for each in inputs))  # type: ignore[attr-defined]
        for each in inputs:
            assert each.prefill < max(1, each.session.not_prefilled)
            each.session.not_prefilled -= each.prefill or each.session.not_prefilled  # type: ignore[misc]
        return try_each(_alone, inputs)


def _alone(each: ForwardInput) -> Choices:
    session, committed, sampling = each.session, each.committed, each.sampling
    if each.prefill:
        return ()
    if sampling.separate:
        return session.distributions(committed, each.draft, sampling)
    if each.tree is not None:
        return session.verify_tree(committed, each.tree, sampling)
    return session.verify(committed, each.draft, sampling, each.on_early)


class ToyVerifySession:
    answer_room = 1000

    def __init__(self, model: ToyVerifier, prompt: str, images: Sequence[bytes]) -> None:
        self.not_prefilled = model.prompt_tokens
        self.model = model
        self.prompt = prompt
        self.context = context_of(prompt, images)
        self.closed = False

    def jump_forward(self, committed: Sequence[int]) -> tuple[int, ...]:
        return ()

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        sampling: Sampling,
        on_early: OnEarly | None = None,
    ) -> tuple[int, ...]:
        assert not self.closed
        self.model.threads.add(threading.current_thread().name)
        self.model.passes.append((self.prompt, len(committed), len(draft)))
        for gate in (self.model.gate, self.model.gates.get(self.prompt)):
            if gate:
                gate.wait(10.0)
        tokens = [*committed, *draft]
        places = range(len(committed), len(tokens) + 1)
        choices = tuple(token_after(self.context, tokens[:length], sampling.seed) for length in places)
        if on_early and self.model.foresees:
            foreseen = (c if self.model.foresees(i) else c + 1 for i, c in zip(places, choices, strict=True))
            on_early(tuple(foreseen), (0.95,) * len(choices))
        if self.model.pass_s:
            time.sleep(self.model.pass_s)
        if "explode" in self.prompt:
            raise RuntimeError("a bug in the model")
        return choices

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        assert not self.closed and self.model.foresees
        self.model.threads.add(threading.current_thread().name)
        self.model.self_drafted += 1
        if "falter" in self.prompt:
            raise RuntimeError("a bug in the early exit")
        tokens = list(committed)
        for place in range(len(committed), len(committed) + count):
            token = token_after(self.context, tokens, sampling.seed)
            tokens.append(token if self.model.foresees(place) else token + 1)
        return tuple(tokens[len(committed) :])

    def distributions(
        self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling
    ) -> tuple[Distribution, ...]:
        self.verify(committed, draft, sampling)
        tokens = [*committed, *draft]
        places = range(len(committed), len(tokens) + 1)
        return tuple(warped(toy_logits(self.context, tokens[:place]), sampling) for place in places)

    def verify_tree(self, committed: Sequence[int], tree: Tree, sampling: Sampling) -> tuple[int, ...]:
        self.model.trees += 1
        first = self.verify(committed, (), sampling)
        branches = ([tree.tokens[node] for node in path(tree, last)] for last in range(len(tree)))
        return (*first, *(token_after(self.context, (*committed, *b), sampling.seed) for b in branches))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.model.open -= 1


class ToyDrafter(ToyText):
    """Says what the target says, except where `wrong(position)` is true; takes `token_s` for a token."""

    def __init__(self, wrong: Callable[[int], bool] = lambda position: False, token_s: float = 0.0) -> None:
        self.wrong = wrong
        self.token_s = token_s
        self.threads: set[str] = set()

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> ToyDraftSession:
        self.threads.add(threading.current_thread().name)
        if "no draft" in prompt:
            raise RuntimeError("a bug in the draft model")
        return ToyDraftSession(self, context_of(prompt, images))


class ToyDraftSession:
    def __init__(self, model: ToyDrafter, context: bytes) -> None:
        self.model = model
        self.context = context
        self.runner_up: tuple[int, float] | None = None

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        tokens = list(prefix)
        while EOS not in tokens:
            time.sleep(self.model.token_s)
            token = token_after(self.context, tokens, sampling.seed)
            self.runner_up = (1 + token % (VOCABULARY - 1), 0.1)
            if self.model.wrong(len(tokens)):
                self.runner_up = (token, 0.4)
                token = 1 + (token + 7) % (VOCABULARY - 1)
            tokens.append(token)
            yield token

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        tokens = list(prefix)
        while EOS not in tokens:
            time.sleep(self.model.token_s)
            logits = toy_logits(self.context, tokens)
            if self.model.wrong(len(tokens)):
                logits = logits[::-1]
            drafted = draft_token(logits, len(tokens), sampling)
            tokens.append(drafted.token)
            yield drafted

    def close(self) -> None:
        pass


class ToySharedDrafter(ToyDrafter):
    """Makes several drafts at once, and notes how many."""

    bytes_per_token: int | None = None

    def reserve(self, sessions: int, tokens: int) -> None:
        raise AssertionError("nothing can be reserved here")

    def __init__(self, wrong: Callable[[int], bool] = lambda position: False) -> None:
        super().__init__(wrong)
        self.shared: list[int] = []

    def open_many(
        self, prompts: Sequence[tuple[str, Sequence[bytes]]]
    ) -> Sequence[ToyDraftSession | Exception]:
        opened: list[ToyDraftSession | Exception] = []
        for prompt, images in prompts:
            try:
                opened.append(self.open(prompt, images))
            except RuntimeError as error:
                opened.append(error)
        return opened

    def draft_many(
        self, parts: Sequence[tuple[ToyDraftSession, Sequence[int], Sampling]], count: int
    ) -> Sequence[Sequence[int] | Exception]:
        self.shared.append(len(parts))
        return [
            list(itertools.islice(session.draft(prefix, sampling), count))
            for session, prefix, sampling in parts
        ]
