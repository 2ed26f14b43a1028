"""What a fuzzer feeds to the targets: bytes that stand for messages of several clients, and real ones to begin with."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgpack

from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Branches,
    Close,
    Committed,
    Draft,
    Early,
    Error,
    ErrorCode,
    Hello,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Sampler,
    Sampling,
    ServerMode,
    TokenOutcome,
    Welcome,
)
from spec_decode_ros.decoding.sparse import Sparse, pack
from spec_decode_ros.transport.codec import encode

PAIR, VOCABULARY = "toy", "toy-50"
CLIENTS = 3
HELLO = Hello(PROTOCOL, PAIR, VOCABULARY)

Said = tuple[int, list[bytes]]
"""A client's number and the frames of one of its messages."""

UP: tuple[Message, ...] = (
    HELLO,
    Open(1, "go to the red chair", mode=ServerMode.STREAM, draft=(3, 4, 5)),
    Open(2, "look", images=2, mode=ServerMode.VERIFY_ONLY, patience_ms=3.0, early=True),
    Open(3, "say", 0, Sampling(0.8, 50, 0.95, 2**64 - 1), mode=ServerMode.SELF_DRAFT, yields=True),
    Open(4, "say", 0, Sampling(0.8, sampler=Sampler.REJECTION), draft=(1, 2, 3), settled=2, max_tokens=9),
    Draft(1, 0, (3, 4, 5)),
    Draft(1, 2, (7,), final=True, round=2),
    Draft(4, 0, (4, 5), probabilities=(1.0, 0.25), settled=1),
    Draft(2, 0),
    Branches(1, 0, (4, 5, 6, 7), (0, 0, 2, 2), 2),
    Close(1),
    Ping(2**62),
)
DOWN: tuple[Message, ...] = (
    Welcome(PROTOCOL, PAIR, VOCABULARY, (0,), 3.0, 1.0, 0.5, 2.0),
    Opened(7),
    Committed(7, 3, (4, 5), (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED), True, 2, 3, 12.5, 2),
    Committed(7, 3, (4,), (TokenOutcome.BONUS,), sparse=pack(Sparse((3, 9), (5, 2**19), 4))),
    Early(7, 3, (4, 5), 0.75),
    Error(0, ErrorCode.BUSY, "The verifier is full.", 500.0),
    Pong(2**62),
)


def frames_of(message: Message) -> list[bytes]:
    """A message on the wire, with images where it counts some."""
    return encode(
        message, [b"\xff\xd8\xff" + bytes([index]) * 9 for index in range(getattr(message, "images", 0))]
    )


def join(case: Sequence[Said]) -> bytes:
    """Messages to bytes, which `split` takes apart again."""
    out = bytearray()
    for client, frames in case:
        out.append((client % CLIENTS) << 4 | min(len(frames), 15))
        for frame in frames[:15]:
            out += min(len(frame), 65_535).to_bytes(2, "little") + frame[:65_535]
    return bytes(out)


def split(data: bytes) -> list[Said]:
    """Any bytes to messages: never fails, and what is cut off at the end is a short frame."""
    case: list[Said] = []
    at = 0
    while at < len(data):
        client, count = (data[at] >> 4) % CLIENTS, data[at] & 15
        at += 1
        frames = []
        for _ in range(count):
            length = int.from_bytes(data[at : at + 2], "little")
            frames.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        if frames:
            case.append((client, frames))
    return case


def seeds() -> list[bytes]:
    """Every message alone, and some conversations."""
    single = [join([(0, frames_of(message))]) for message in (*UP, *DOWN)]
    told = [
        [(0, HELLO), (0, UP[1]), (0, UP[5]), (0, UP[6]), (0, UP[10])],
        [(1, UP[2]), (1, UP[8]), (0, UP[4]), (0, UP[7])],
        [(0, UP[1]), (0, UP[9]), (1, UP[3]), (1, UP[11]), (2, UP[1])],
    ]
    return single + [join([(client, frames_of(message)) for client, message in talk]) for talk in told]


# ---- mutation that knows the packing -----------------------------------------------------------------------

_ODD: tuple[object, ...] = (
    0, 1, -1, 2, 63, 64, 65, 127, 255, 4096, 4097, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63),
    0.0, -0.0, 0.5, 1.0, 1e-45, 1e308, float("nan"), float("inf"), True, False, None, "", "x", "gumbel", "rejection",
    "stream", "verify_only", "self_draft", "\0", "é" * 40, b"", b"\xff" * 9, [], [[]], [0], [0, 0], [2**31 - 1] * 3,
)  # fmt: skip


def mutated(data: bytes, rng: random.Random, longest: int) -> bytes:
    """Another case like this one: messages exchanged, fields changed, or plain damage."""
    case = split(data)
    for _ in range(rng.randrange(1, 4)):
        case = _step(case, rng)
    made = bytearray(join(case))
    if made and rng.random() < 0.2:
        for _ in range(rng.randrange(1, 4)):
            made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made[:longest])


def _step(case: list[Said], rng: random.Random) -> list[Said]:
    choice = rng.randrange(8)
    if not case or choice == 0:
        said = (rng.randrange(CLIENTS), frames_of(rng.choice(UP)))
        at = rng.randrange(len(case) + 1)
        return [*case[:at], said, *case[at:]]
    at = rng.randrange(len(case))
    client, frames = case[at]
    if choice == 1:
        return [*case[:at], *case[at + 1 :]]
    if choice == 2:
        return [*case, (rng.randrange(CLIENTS), list(frames))]
    if choice == 3:
        other = rng.randrange(len(case))
        case = list(case)
        case[at], case[other] = case[other], case[at]
        return case
    if choice == 4:
        frames = [*frames, rng.choice((b"", b"\0", rng.randbytes(5), *frames))]
    else:
        frames = [_changed(frames[0], rng), *frames[1:]]
    return [*case[:at], (client, frames), *case[at + 1 :]]


def _changed(frame: bytes, rng: random.Random) -> bytes:
    try:
        fields = msgpack.unpackb(frame[1:], raw=False, strict_map_key=False)
    except Exception:  # it was damaged before
        return frame[: rng.randrange(len(frame) + 1)] + rng.randbytes(rng.randrange(3))
    try:
        return frame[:1] + msgpack.packb(_other(fields, rng), use_bin_type=True)
    except (TypeError, ValueError, OverflowError):
        return frame


def _other(value: object, rng: random.Random) -> object:
    if isinstance(value, list) and value and rng.random() < 0.9:
        value = list(value)
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            value.insert(at, rng.choice(_ODD))
        elif rng.random() < 0.1:
            del value[at]
        else:
            value[at] = _other(value[at], rng)
        return value
    if isinstance(value, bool) or rng.random() < 0.4:
        return rng.choice(_ODD)
    if isinstance(value, int):
        return value + rng.choice((-1, 1, rng.randrange(-60, 60)))
    if isinstance(value, list):
        return [rng.randrange(50) for _ in range(rng.randrange(80))]
    if isinstance(value, float):
        return rng.choice((value / 2, value * 3, -value, rng.random()))
    if isinstance(value, str):
        return value * rng.choice((0, 2, 30)) + rng.choice(("", " ", "|"))
    return rng.choice(_ODD)
