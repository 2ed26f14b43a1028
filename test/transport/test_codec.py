"""Every message survives the wire; nothing else gets through, and nothing else is ever raised."""

from __future__ import annotations

import dataclasses
import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_decode_ros.decoding import messages
from spec_decode_ros.decoding.messages import (
    MAX_BRANCH_NODES,
    Branches,
    Close,
    Committed,
    Draft,
    Early,
    Error,
    Hello,
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
from spec_decode_ros.transport.codec import (
    _KINDS,
    DOWN,
    MAX_IMAGE_BYTES,
    MAX_MESSAGE_BYTES,
    UP,
    WIRE_VERSION,
    WireError,
    decode,
    encode,
)

TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=40).map(tuple)
IDS = st.integers(1, 2**63 - 1)
COUNTS = st.integers(0, 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, 100, allow_nan=False),
    top_k=COUNTS,
    top_p=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 2**64 - 1),
    sampler=st.sampled_from(Sampler),
)


@st.composite
def committed(draw: st.DrawFn) -> Committed:
    outcomes = tuple(draw(st.lists(st.sampled_from(TokenOutcome), max_size=20)))
    tokens = tuple(draw(st.lists(st.integers(0, 2**31 - 1), min_size=len(outcomes), max_size=len(outcomes))))
    return Committed(
        draw(IDS), draw(COUNTS), tokens, outcomes, draw(st.booleans()), draw(COUNTS), draw(COUNTS),
        draw(st.floats(0, 1e6)), draw(COUNTS), draw(st.binary(max_size=600)),
    )  # fmt: skip


@st.composite
def sampled_draft(draw: st.DrawFn) -> Draft:
    """Probabilities are multiples of 2**-24."""
    tokens = draw(TOKENS)
    units = draw(st.lists(st.integers(1, 2**24), min_size=len(tokens), max_size=len(tokens)))
    probabilities = tuple(unit * 2.0**-24 for unit in units)
    settled = draw(st.integers(0, len(tokens)))
    return Draft(draw(IDS), draw(COUNTS), tokens, probabilities=probabilities, settled=settled)


@st.composite
def branches(draw: st.DrawFn) -> Branches:
    tokens = draw(st.lists(COUNTS, min_size=1, max_size=MAX_BRANCH_NODES))
    parents = [draw(st.integers(0, node)) for node in range(len(tokens))]
    return Branches(draw(IDS), draw(COUNTS), tuple(tokens), tuple(parents), draw(st.integers(1, 2**31 - 1)))


MESSAGES = st.one_of(
    st.builds(Hello, COUNTS, TEXT, TEXT, TEXT),
    st.builds(
        Open, IDS, TEXT, st.integers(0, 3), SAMPLING, st.sampled_from(ServerMode), TOKENS,
        st.integers(1, 4096), st.floats(0, 10_000), st.booleans(), st.booleans(),
    ),
    st.builds(Draft, IDS, COUNTS, TOKENS, st.booleans(), st.integers(1, 2**31 - 1)),
    sampled_draft(),
    branches(),
    st.builds(Close, IDS),
    st.builds(Ping, COUNTS),
    st.builds(Welcome, COUNTS, TEXT, TEXT, TOKENS),
    st.builds(Opened, IDS),
    committed(),
    st.builds(Early, IDS, COUNTS, TOKENS, st.floats(0, 1)),
    st.builds(Error, COUNTS, TEXT, TEXT),
    st.builds(Pong, COUNTS),
)  # fmt: skip

EXAMPLES = [
    Hello(1, "tiny", "abc123", "def456"),
    Open(7, "go to the red chair | last none", 2, Sampling(0.8, 50, 0.95, 2**64 - 1), draft=(1, 2, 3)),
    Open(8, "say", 0, mode=ServerMode.VERIFY_ONLY, max_tokens=1, patience_ms=10.0),
    Open(9, "say", 0, Sampling(0.8, sampler="rejection"), draft=(1, 2, 3), settled=2),
    Draft(7, 3, (4, 5), final=True, round=2),
    Draft(7, 3, (4, 5), probabilities=(1.0, 0.25), settled=1),
    Branches(7, 3, (4, 5, 6), (0, 0, 2), 2),
    Close(7),
    Ping(2**62),
    Welcome(1, "tiny", "abc123", (2,)),
    Opened(7),
    Committed(7, 3, (4, 5), (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED), True, 2, 3, 12.5, 2),
    Committed(
        7,
        3,
        (4, 5),
        (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED),
        sparse=pack(Sparse((3, 9), (5, 2**19), 4)),
    ),
    Early(7, 3, (4, 5), 0.75),
    Error(0, "mismatch", "Refused: the vocabularies differ."),
    Pong(2**62),
]


def images_of(message: object) -> list[bytes]:
    return [bytes([index]) * 9 for index in range(getattr(message, "images", 0))]


def test_every_kind_of_message_has_a_number_on_the_wire() -> None:
    assert set(_KINDS.values()) == set(UP) | set(DOWN)
    assert {type(message) for message in EXAMPLES} == set(UP) | set(DOWN)


@settings(max_examples=400)
@given(MESSAGES)
def test_a_message_survives_the_wire(message: messages.Message) -> None:
    frames = encode(message, images_of(message))
    assert decode(frames) == (message, tuple(images_of(message)))


def test_a_drafted_token_costs_at_most_ten_bytes_with_its_probability() -> None:
    tokens, probabilities = (2**17,) * 8, (2.0**-24,) * 8
    bare = encode(Draft(7, 3, tokens))
    assert len(encode(Draft(7, 3, tokens, probabilities=probabilities))[0]) - len(bare[0]) <= 8 * 5
    assert len(encode(Draft(7, 3, tokens, probabilities=probabilities))[0]) <= 8 * 10 + 10


def test_images_travel_uncopied_as_frames_of_their_own() -> None:
    picture = bytes(range(256)) * 100
    frames = encode(Open(1, "look", images=1), [picture])
    assert frames[1] is picture
    assert len(frames[0]) < 60


def packed(*fields: object) -> list[bytes]:
    return [bytes([WIRE_VERSION]) + msgpack.packb(list(fields))]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "1 to 9 frames"),
        ([b""], "0 bytes"),
        ([b"\x01"], "1 bytes"),
        ([b"\x02" + msgpack.packb([5, 1])], "version 2"),
        ([b"\x01" + msgpack.packb({"kind": 5})], "unpacked"),
        ([b"\x01\xc1"], "unpacked"),
        ([b"\x01" + msgpack.packb([5, 1]) + b"\x00"], "unpacked"),
        ([b"\x01\xdd\xff\xff\xff\xff"], "unpacked"),
        ([b"\x01" + b"\x91" * 5000], "unpacked"),
        ([b"\x01" + msgpack.packb(5)], "array"),
        (packed(), "unknown kind"),
        (packed(99, 1), "unknown kind"),
        (packed([5], 1), "unknown kind"),
        (packed(True, 1), "unknown kind"),
        (packed(4, 1, 2), "1 fields"),
        (packed(4, True), "type int"),
        (packed(4, 1.0), "type int"),
        (packed(4, "1"), "type int"),
        (packed(4, None), "type int"),
        (packed(4, -1), "within"),
        (packed(4, 2**64 - 1), "within"),
        (packed(4, 0), "action_id"),
        (packed(1, 1, b"tiny", "x", ""), "must be text"),
        (packed(1, 1, 5, "x", ""), "must be text"),
        (packed(1, 1, "x" * 1001, "x", ""), "characters"),
        (packed(3, 1, 0, [1, -1], False, 1, [], 0), "within"),
        (packed(3, 1, 0, [1.5], False, 1, [], 0), "type int"),
        (packed(3, 1, 0, 5, False, 1, [], 0), "a list"),
        (packed(3, 1, 0, [1], 1, 1, [], 0), "true or false"),
        (packed(3, 1, 0, [1], False, 0, [], 0), "round"),
        (packed(3, 1, 0, list(range(4097)), False, 1, [], 0), "unpacked"),
        (packed(2, 1, "x", 0, [0.0, 0, 1.0, 0], "stream", [], 5, 0.0, False, False, 0), "5 fields"),
        (
            packed(2, 1, "x", 0, [float("nan"), 0, 1.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0),
            "within",
        ),
        (
            packed(2, 1, "x", 0, [float("inf"), 0, 1.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0),
            "within",
        ),
        (packed(2, 1, "x", 0, [0.0, 0, 0.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0), "top_p"),
        (
            packed(2, 1, "x", 0, [0.0, 0, 1.0, 0, "gumbel"], "other", [], 5, 0.0, False, False, 0),
            "not one of",
        ),
        (
            packed(2, 1, "x", 0, [0.0, 0, 1.0, 0, "gumbel"], ["stream"], [], 5, 0.0, False, False, 0),
            "not one of",
        ),
        (
            packed(2, 1, "x", 0, [0.0, 0, 1.0, 0, "gumbel"], "stream", [], 5000, 0.0, False, False, 0),
            "within",
        ),
        (
            packed(2, 1, "x", 1, [0.0, 0, 1.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0),
            "1 images, but 0",
        ),
        (
            packed(2, 1, "x" * 16_385, 0, [0.0, 0, 1.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0),
            "characters",
        ),
        ([*packed(4, 1), b"picture"], "0 images, but 1"),
        (
            [*packed(2, 1, "x", 1, [0.0, 0, 1.0, 0, "gumbel"], "stream", [], 5, 0.0, False, False, 0), b""],
            "image has 0",
        ),
        ([*packed(4, 1), *[b"x"] * 9], "frames"),
        (packed(67, 1, 0, [1], [], False, 1, 1, 0.0, 1, b""), "as many outcomes"),
        (packed(67, 1, 0, [1], [9], False, 1, 1, 0.0, 1, b""), "not one of"),
        (packed(67, 1, 0, [1], [0], False, 1, 1, 0.0, 1, "text"), "must be bytes"),
        (packed(67, 1, 0, [1], [0], False, 1, 1, 0.0, 1, b"x" * 16_385), "unpacked"),
        (packed(2, 1, "x", 0, [0.0, 0, 1.0, 0, "dice"], "stream", [], 5, 0.0, False, False, 0), "not one of"),
        (packed(2, 1, "x", 0, [0.0, 0, 1.0, 0, "gumbel"], "stream", [4], 5, 0.0, False, False, 2), "settled"),
        (packed(3, 1, 0, [1], False, 1, [0.0], 0), "above 0"),
        (packed(3, 1, 0, [1], False, 1, [1.5], 0), "within"),
        (packed(3, 1, 0, [1], False, 1, [1e-60], 0), "single float"),  # found by the fuzzer
        (packed(3, 1, 0, [1], False, 1, [0.1], 0), "single float"),
        (packed(3, 1, 0, [1], False, 1, [float("nan")], 0), "within"),
        (packed(3, 1, 0, [1, 2], False, 1, [0.5], 0), "as many probabilities"),
        (packed(3, 1, 0, [1], False, 1, [], 2), "settled"),
        (packed(70, 1, 0, [1], 1.5), "within"),
    ],
)
def test_malformed_frames_are_refused_with_the_reason(frames: list[bytes], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode(frames)


def test_each_side_accepts_only_what_is_meant_for_it() -> None:
    for message in EXAMPLES:
        other = DOWN if isinstance(message, UP) else UP
        with pytest.raises(WireError, match="not accepted"):
            decode(encode(message, images_of(message)), other)


def test_images_and_messages_have_limits() -> None:
    decode(encode(Open(1, "look at that", images=1), [bytes(MAX_IMAGE_BYTES)]))
    with pytest.raises(WireError, match="image has 4194305 bytes"):
        decode(encode(Open(1, "look", images=1), [bytes(MAX_IMAGE_BYTES + 1)]))
    half = bytes(MAX_IMAGE_BYTES // 2 + 1)
    with pytest.raises(WireError, match="images have 4194306 bytes together; at most 4194304"):
        decode(encode(Open(1, "look", images=2), [half, half]))
    with pytest.raises(WireError, match="bytes without images"):
        decode([bytes([WIRE_VERSION]) + bytes(MAX_MESSAGE_BYTES)])


def test_what_is_no_message_is_not_encoded() -> None:
    with pytest.raises(WireError, match="not a message"):
        encode(Sampling())  # type: ignore[arg-type]
    with pytest.raises(WireError, match="0 images"):
        encode(Open(1, "look", images=1))
    with pytest.raises(WireError, match="can't be sent"):
        encode(dataclasses.replace(Close(1), action_id=2**70))


def test_a_hundred_thousand_mutated_messages_raise_nothing_but_wire_errors() -> None:
    rng = random.Random(20)
    originals = [encode(message, images_of(message)) for message in EXAMPLES]
    refused = 0
    for _ in range(100_000):
        frames = mutated(rng, rng.choice(originals))
        try:
            message, _ = decode(frames)
        except WireError:
            refused += 1
        else:
            # What gets through is a whole message again, which packs and unpacks to itself.
            assert decode(encode(message, images_of(message)))[0] == message
    assert refused > 50_000


def mutated(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    frames = list(frames)
    style = rng.randrange(6)
    if style == 0:
        return [rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(4))]
    first = bytearray(frames[0])
    if style == 1:
        frames[0] = bytes(first[: rng.randrange(len(first))])
    elif style == 2:
        frames[0] = bytes([WIRE_VERSION]) + rng.randbytes(rng.randrange(1, 60))
    elif style == 3:
        del first[rng.randrange(len(first))]
        frames[0] = bytes(first)
    elif style == 4:
        frames += [rng.randbytes(3)] * rng.randrange(1, 4)
    else:
        for _ in range(rng.randrange(1, 4)):
            first[rng.randrange(1, len(first))] = rng.randrange(256)
        frames[0] = bytes(first)
    return frames
