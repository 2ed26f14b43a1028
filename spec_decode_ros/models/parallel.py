"""One target over several GPUs: transformers' tensor parallelism, with the same calls made in every process.

Each process holds its part of every layer. Rank 0 serves; before it prepares a prompt or makes a pass it sends the call
to the others, which do the same with their parts, and the parts meet inside the layers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Choices, ForwardInput, PromptWithImages, VerifySession
from spec_decode_ros.models.loading import check_divisible, load_whole_verifier
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig, resolve_location
from spec_decode_ros.models.ranks import Channel, Followers, join, settings_of_leader
from spec_decode_ros.models.verifier import HfVerifier, HfVerifySession

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
        "template_settings": dict(pair.template_settings),
        "name": pair.name,
        "prompt": pair.prompt,
        "grammar": pair.grammar,
        "max_tokens": pair.max_tokens,
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


class ParallelVerifier(HfVerifier):
    """Rank 0's part of a target, whose calls are made in every process; `bytes_per_token` are of this one's memory."""

    def __init__(self, part: HfVerifier, channel: Channel, followers: Followers) -> None:
        super().__init__(part.model, part.early_exits)
        self.followers = followers
        self._channel = channel
        self._numbers = itertools.count()  # of sessions
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def in_every_process(self, call: list[Any]) -> Iterator[None]:
        """Let the others make this call, while the same is done here."""
        with self._lock:
            self._channel.send(call)
            yield

    def reserve(self, sessions: int, tokens: int) -> None:
        with self.in_every_process([_RESERVE, sessions, tokens]):
            super().reserve(sessions, tokens)

    def prepare_many(self, prompts: Sequence[PromptWithImages]) -> list[HfVerifySession | Exception]:
        numbers = [next(self._numbers) for _ in prompts]
        call = [_PREPARE, numbers, [[prompt, list(images)] for prompt, images in prompts]]
        with self.in_every_process(call):
            made = super().prepare_many(prompts)
        return [
            session if isinstance(session, Exception) else ParallelSession(self, session, number)
            for number, session in zip(numbers, made, strict=True)
        ]

    def verify_many(self, inputs: Sequence[ForwardInput]) -> list[Choices | Exception]:
        with self.in_every_process([_VERIFY, [self._packed(each) for each in inputs]]):
            return super().verify_many(inputs)

    def _packed(self, each: ForwardInput) -> list[Any]:
        session = each.session
        if not isinstance(session, ParallelSession) or session.verifier is not self:
            raise SpecDecodeError("A session that another verifier has prepared cannot be verified here.")
        tree = None if each.tree is None else [list(each.tree.tokens), list(each.tree.parents)]
        early, sampling = each.on_early is not None, _packed_sampling(each.sampling)
        return [session.number, list(each.committed), list(each.draft), sampling, tree, early, each.prefill]

    def close(self) -> None:
        """End the other processes; nothing can be verified afterwards."""
        with self._lock:
            self.followers.expect_end()
            with contextlib.suppress(RuntimeError):  # one of them has ended already
                self._channel.send([_END])
            self.followers.stop()
            torch.distributed.destroy_process_group()


class ParallelSession(HfVerifySession):
    """One prompt in every process, where it has the same number."""

    def __init__(self, verifier: ParallelVerifier, session: HfVerifySession, number: int) -> None:
        super().__init__(verifier, session.sequence)
        self.verifier: ParallelVerifier = verifier
        self.number = number
        self._closed = False

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        call = [_DRAFT, self.number, list(committed), count, _packed_sampling(sampling)]
        with self.verifier.in_every_process(call):
            return super().self_draft(committed, count, sampling)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with self.verifier.in_every_process([_CLOSE, self.number]):
                super().close()


def _packed_sampling(sampling: Sampling) -> dict[str, Any]:
    return {**asdict(sampling), "sampler": sampling.sampler.value}


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

    A call that fails there fails here too, and rank 0 reports it.
    """
    sessions: dict[int, VerifySession] = {}
    while True:
        kind, *call = channel.receive()
        if kind == _END:
            return
        try:
            _make_call(kind, call, verifier, sessions)
        except Exception as error:
            _log.debug("a call of rank 0 has failed: %s", error)


def _make_call(kind: int, call: list[Any], verifier: HfVerifier, sessions: dict[int, VerifySession]) -> None:
    if kind == _PREPARE:
        numbers, prompts = call
        made = verifier.prepare_many([tuple(each) for each in prompts])
        sessions.update(
            (n, each) for n, each in zip(numbers, made, strict=True) if not isinstance(each, Exception)
        )
    elif kind == _VERIFY:
        verifier.verify_many([_unpacked(each, sessions) for each in call[0]])
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
    target = ModelConfig(**settings.pop("target"))
    pair = PairConfig(draft=target, target=target, **{**settings, "folder": Path(settings["folder"])})
    channel = join(rank, size, folder, target.device)
    part = _load(pair, target.device, rank)
    channel.meet()
    with contextlib.suppress(RuntimeError):  # rank 0 has ended without a word
        follow(part, channel)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
