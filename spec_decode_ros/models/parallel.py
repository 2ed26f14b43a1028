"""One target over several GPUs: transformers' tensor parallelism, with the same calls made in every process.

Each process holds its part of every layer. Rank 0 serves; before it prepares a prompt or makes a pass it tells the
others, which do the same with their parts, and the parts meet inside the layers.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Choices, ForwardInput, OnEarly, SelfDrafting, VerifySession
from spec_decode_ros.models.loading import check_divisible, load_whole_verifier
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig, resolve_location
from spec_decode_ros.models.ranks import Channel, Followers, join, settings_of_leader
from spec_decode_ros.models.text import TextSide

if TYPE_CHECKING:
    from spec_decode_ros.decoding.distribution import Distribution
    from spec_decode_ros.models.exits import ExitFigures
    from spec_decode_ros.models.verifier import HfVerifier

_log = logging.getLogger(__name__)

_PREPARE, _VERIFY, _DRAFT, _CLOSE, _RESERVE, _END = range(6)


def load_parallel(pair: PairConfig) -> ParallelVerifier:
    """Load the target of `pair` in `tensor_parallel` processes, of which this is one.

    Raises:
        SpecDecodeError: there are not so many GPUs, or the target cannot be divided so or not be loaded.
    """
    size = pair.target.tensor_parallel
    device = _device_type(pair.target.device, size)
    check_divisible(pair.target, resolve_location(pair.target, pair.folder))
    settings = {
        "target": {**asdict(pair.target), "device": device},
        "folder": str(pair.folder),
        "chat_template": pair.chat_template,
        "name": pair.name,
    }
    followers = Followers(__name__, size, settings)
    try:
        channel = join(0, size, followers.folder, device)
        part = _load(pair, device, 0)
        channel.meet()
        followers.met()
    except BaseException:
        followers.stop()
        raise
    return ParallelVerifier(part, channel, followers)


def _device_type(wanted: str, size: int) -> str:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "cpu"
    if wanted not in ("auto", "cuda"):
        raise SpecDecodeError(
            f"A target over {size} GPUs takes the first ones that the process sees: set its device to auto, not {wanted}."
        )
    if gpus < size:
        raise SpecDecodeError(
            f"tensor_parallel is {size}, but this process sees {gpus} GPUs: lower it, or use a machine that has them."
        )
    return "cuda"


def _load(pair: PairConfig, device: str, rank: int) -> HfVerifier:
    place = f"cuda:{rank}" if device == "cuda" else device
    return load_whole_verifier(replace(pair, target=replace(pair.target, device=place)))


class ParallelVerifier(TextSide):
    """What rank 0 serves with; satisfies `interfaces.Verifier`."""

    def __init__(self, part: HfVerifier, channel: Channel, followers: Followers) -> None:
        super().__init__(part.model.text)
        self.part = part
        self.followers = followers
        self._channel = channel
        self._numbers = 0
        self._lock = threading.Lock()

    @property
    def exits(self) -> Sequence[ExitFigures]:
        return self.part.exits

    @property
    def self_drafting(self) -> SelfDrafting | None:
        return self.part.self_drafting

    @property
    def can_verify_trees(self) -> bool:
        return self.part.can_verify_trees

    @property
    def bytes_per_token(self) -> int | None:
        """What one token takes in this process's memory, a part of what it takes in all."""
        return self.part.bytes_per_token

    def reserve(self, sessions: int, tokens: int) -> None:
        """As `HfSide.reserve`, in every process."""
        with self._lock:
            self._channel.tell([_RESERVE, sessions, tokens])
            self.part.reserve(sessions, tokens)

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> VerifySession:
        made = self.prepare_many([(prompt, images)])[0]
        if isinstance(made, Exception):
            raise made
        return made

    def prepare_many(
        self, prompts: Sequence[tuple[str, Sequence[bytes]]]
    ) -> Sequence[VerifySession | Exception]:
        with self._lock:
            numbers = range(self._numbers, self._numbers + len(prompts))
            self._numbers = numbers.stop
            asked = [[prompt, list(images)] for prompt, images in prompts]
            self._channel.tell([_PREPARE, numbers.start, asked])
            made = self.part.prepare_many(prompts)
            return [
                session if isinstance(session, Exception) else ParallelSession(self, number, session)
                for number, session in zip(numbers, made, strict=True)
            ]

    def verify_many(self, parts: Sequence[ForwardInput]) -> Sequence[Choices | Exception]:
        sessions = [part.session for part in parts]
        own = [each for each in sessions if isinstance(each, ParallelSession) and each.verifier is self]
        if len(own) < len(sessions):
            raise SpecDecodeError("A session that another verifier has prepared cannot be verified here.")
        with self._lock:
            self._channel.tell(
                [_VERIFY, [_packed(part, each) for part, each in zip(parts, own, strict=True)]]
            )
            inside = [replace(part, session=each.inner) for part, each in zip(parts, own, strict=True)]
            return self.part.verify_many(inside)

    def self_draft(
        self, session: ParallelSession, committed: Sequence[int], count: int, sampling: Sampling
    ) -> tuple[int, ...]:
        with self._lock:
            self._channel.tell([_DRAFT, session.number, list(committed), count, _sampling(sampling)])
            return session.inner.self_draft(committed, count, sampling)

    def close_session(self, session: ParallelSession) -> None:
        with self._lock:
            self._channel.tell([_CLOSE, session.number])
            session.inner.close()

    def close(self) -> None:
        """End the other processes; nothing can be verified afterwards."""
        with self._lock:
            self.followers.expect_end()
            with contextlib.suppress(RuntimeError):  # one of them has ended already
                self._channel.tell([_END])
            self.followers.stop()
            torch.distributed.destroy_process_group()


class ParallelSession:
    """One prompt in every process; satisfies `interfaces.VerifySession`."""

    def __init__(self, verifier: ParallelVerifier, number: int, inner: VerifySession) -> None:
        self.verifier, self.number, self.inner = verifier, number, inner
        self._closed = False

    @property
    def answer_room(self) -> int:
        return self.inner.answer_room

    @property
    def unread(self) -> int:
        return self.inner.unread

    @property
    def can_verify_trees(self) -> bool:
        return self.inner.can_verify_trees

    def read(self, count: int) -> None:
        """Take in the next `count` of the `unread` tokens."""
        self._alone(ForwardInput(self, prefill=count))

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        sampling: Sampling,
        on_early: OnEarly | None = None,
    ) -> tuple[int, ...]:
        return self._alone(ForwardInput(self, committed, draft, sampling, on_early=on_early))

    def verify_tree(self, committed: Sequence[int], tree: Tree, sampling: Sampling) -> tuple[int, ...]:
        return self._alone(ForwardInput(self, committed, (), sampling, tree))

    def distributions(
        self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling
    ) -> tuple[Distribution, ...]:
        return self._alone(ForwardInput(self, committed, draft, sampling))

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        return self.verifier.self_draft(self, committed, count, sampling)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.verifier.close_session(self)

    def _alone(self, part: ForwardInput) -> Any:
        result = self.verifier.verify_many([part])[0]
        if isinstance(result, Exception):
            raise result
        return result


def _sampling(sampling: Sampling) -> dict[str, Any]:
    return {**asdict(sampling), "sampler": sampling.sampler.value}


def _packed(part: ForwardInput, session: ParallelSession) -> list[Any]:
    tree = None if part.tree is None else [list(part.tree.tokens), list(part.tree.parents)]
    return [
        session.number,
        list(part.committed),
        list(part.draft),
        _sampling(part.sampling),
        tree,
        part.on_early is not None,
        part.prefill,
    ]


def _unpacked(packed: list[Any], sessions: dict[int, VerifySession]) -> ForwardInput:
    number, committed, draft, sampling, tree, early, prefill = packed
    return ForwardInput(
        sessions[number],
        committed,
        draft,
        Sampling(**sampling),
        None if tree is None else Tree(*map(tuple, tree)),
        (lambda choices, confidences: None) if early else None,  # the exit's head is divided too
        prefill,
    )


def follow(verifier: HfVerifier, channel: Channel) -> None:
    """In the other processes: make every call that rank 0 makes, until it ends.

    What fails there fails here, and is rank 0's to tell.
    """
    sessions: dict[int, VerifySession] = {}
    while True:
        kind, *call = channel.hear()
        if kind == _END:
            return
        try:
            _do(kind, call, verifier, sessions)
        except Exception as error:
            _log.debug("what rank 0 has asked for has failed: %s", error)


def _do(kind: int, call: list[Any], verifier: HfVerifier, sessions: dict[int, VerifySession]) -> None:
    if kind == _PREPARE:
        first, asked = call
        made = verifier.prepare_many([(prompt, images) for prompt, images in asked])
        for number, session in enumerate(made, first):
            if not isinstance(session, Exception):
                sessions[number] = session
    elif kind == _VERIFY:
        verifier.verify_many([_unpacked(part, sessions) for part in call[0]])
    elif kind == _DRAFT:
        number, committed, count, sampling = call
        sessions[number].self_draft(committed, count, Sampling(**sampling))
    elif kind == _CLOSE:
        sessions.pop(call[0]).close()
    elif kind == _RESERVE:
        verifier.reserve(*call)


def main(arguments: Sequence[str]) -> int:
    """A follower: rank, size and folder."""
    rank, size, folder = int(arguments[0]), int(arguments[1]), arguments[2]
    settings = settings_of_leader()
    target = ModelConfig(**settings["target"])
    pair = PairConfig(
        settings["name"],
        target,
        target,
        chat_template=settings["chat_template"],
        folder=Path(settings["folder"]),
    )
    channel = join(rank, size, folder, target.device)
    part = _load(pair, target.device, rank)
    channel.meet()
    with contextlib.suppress(RuntimeError):  # rank 0 has ended without a word
        follow(part, channel)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
