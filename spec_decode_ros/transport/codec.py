"""Messages to ZeroMQ frames and back.

The first frame is a version byte followed by a msgpack array: a number for the kind of message, then its fields
in the order of the dataclass. Every image travels as a frame of its own, so that it is never copied into or out
of the packed part. Nested values are arrays again, enums their values. Draft probabilities are single floats, which
hold them exactly.

What arrives is trusted in nothing: types are exact, numbers finite and within bounds, texts and lists no longer
than :class:`Limits`. Whatever is wrong ends in a :class:`WireError`, nothing else. The field checks are derived
from the dataclasses in :mod:`spec_decode_ros.decoding.messages`; only the bounds below are written by hand.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
import typing
from collections.abc import Callable, Sequence

import msgpack

from spec_decode_ros.decoding import messages
from spec_decode_ros.decoding.messages import Message, Open
from spec_decode_ros.errors import SpecDecodeError

WIRE_VERSION = 1
"""First byte of every message; changes when the packing does (`messages.PROTOCOL` when the vocabulary does)."""

UP: tuple[type, ...] = typing.get_args(messages.Up)
DOWN: tuple[type, ...] = typing.get_args(messages.Down)

_KINDS: dict[int, type] = {
    1: messages.Hello,
    2: messages.Open,
    3: messages.Draft,
    4: messages.Close,
    5: messages.Ping,
    6: messages.Branches,
    65: messages.Welcome,
    66: messages.Opened,
    67: messages.Committed,
    68: messages.Error,
    69: messages.Pong,
    70: messages.Early,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}

_COUNT = (0, 2**31 - 1)
_NUMBER_BOUNDS: dict[str, tuple[float, float]] = {
    "action_id": (0, 2**63 - 1),
    "stamp": (0, 2**63 - 1),
    "seed": (0, 2**64 - 1),
    "temperature": (0.0, 1000.0),
    "top_p": (0.0, 1.0),
    "confidence": (0.0, 1.0),
    "probabilities": (0.0, 1.0),
    "patience_ms": (0.0, 10_000.0),
    "busy_ms": (0.0, 1e9),
    "step_ms": (0.0, 1e9),
    "per_token_ms": (0.0, 1e9),
    "server_draft_prefill_ms": (0.0, 1e9),
    "server_draft_ms": (0.0, 1e9),
    "retry_ms": (0.0, messages.MAX_RETRY_MS),
}
"""Bounds of numeric fields by name; every other one is a count."""


class WireError(SpecDecodeError):
    """The frames are not a message that this side accepts."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large anything that arrives may be; `image_bytes` is for all images of a message together."""

    message_bytes: int = 256 * 1024
    image_bytes: int = 4 * 1024 * 1024
    images: int = 8
    tokens: int = 4096
    prompt_chars: int = 16_384
    text_chars: int = 1_000
    packed_bytes: int = 16_384

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise SpecDecodeError(
                    f"The limit {field.name} must be at least 1, not {getattr(self, field.name)}."
                )

    @property
    def frame_bytes(self) -> int:
        """The largest single frame; ZeroMQ drops the connection of a peer that sends a larger one."""
        return max(self.message_bytes, self.image_bytes)

    @property
    def frames(self) -> int:
        """The most frames that one message has."""
        return 1 + self.images


DEFAULT_LIMITS = Limits()

_Reader = Callable[[object, Limits], object]

_SINGLE = struct.Struct("<f")


def encode(message: Message, images: Sequence[bytes] = ()) -> list[bytes]:
    """Frames of `message`; `images` are JPEG bytes and go only with an `Open` that counts them.

    Raises:
        WireError: if the value is not a message, or the images are not as many as it says.
    """
    number = _NUMBERS.get(type(message))
    if number is None:
        raise WireError(f"{type(message).__name__} is not a message.")
    if len(images) != getattr(message, "images", 0):
        raise WireError(
            f"{len(images)} images go with a message that counts {getattr(message, 'images', 0)}."
        )
    try:
        single = isinstance(message, messages.Draft)  # all its floats are float32 numbers
        packed = msgpack.packb([number, *_plain_fields(message)], use_bin_type=True, use_single_float=single)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"A {type(message).__name__} holds a value that can't be sent: {error}.") from error
    return [bytes([WIRE_VERSION]) + packed, *images]


def decode(
    frames: Sequence[bytes], accept: tuple[type, ...] = UP + DOWN, limits: Limits = DEFAULT_LIMITS
) -> tuple[Message, tuple[bytes, ...]]:
    """The message in `frames` and its images.

    Raises:
        WireError: for anything that is not exactly one message of a kind in `accept` within `limits`.
    """
    if not 1 <= len(frames) <= limits.frames:
        raise WireError(f"A message has 1 to {limits.frames} frames, not {len(frames)}.")
    fields = _unpack(frames[0], limits)
    kind = _KINDS.get(fields[0]) if fields and type(fields[0]) is int else None
    if kind is None:
        raise WireError("The message is of an unknown kind; compare the versions of both sides.")
    if kind not in accept:
        raise WireError(f"A {kind.__name__} is not accepted on this side.")
    message = _build(kind, fields[1:], limits)
    images = tuple(frames[1:])
    counted = message.images if isinstance(message, Open) else 0
    if counted != len(images):
        raise WireError(f"{kind.__name__} counts {counted} images, but {len(images)} came with it.")
    for image in images:
        if not 1 <= len(image) <= limits.image_bytes:
            raise WireError(f"An image has {len(image)} bytes; 1 to {limits.image_bytes} are accepted.")
    if (together := sum(map(len, images))) > limits.image_bytes:
        raise WireError(
            f"The images have {together} bytes together; at most {limits.image_bytes} are accepted."
        )
    return typing.cast(Message, message), images


def _unpack(frame: bytes, limits: Limits) -> list[typing.Any]:
    if not 2 <= len(frame) <= limits.message_bytes:
        raise WireError(
            f"A message has {len(frame)} bytes without images; 2 to {limits.message_bytes} are accepted."
        )
    if frame[0] != WIRE_VERSION:
        raise WireError(
            f"The peer packs in version {frame[0]}, this side in {WIRE_VERSION}; update the older one."
        )
    longest = 4 * max(limits.prompt_chars, limits.text_chars)
    try:
        value = msgpack.unpackb(
            frame[1:],
            raw=False,
            use_list=True,
            max_array_len=max(limits.tokens, 64),
            max_str_len=longest,
            max_bin_len=limits.packed_bytes,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:  # msgpack raises several unrelated types for malformed bytes
        raise WireError(f"The message can't be unpacked ({type(error).__name__}).") from error
    if type(value) is not list:
        raise WireError("The message is not an array of fields.")
    return value


def _build(kind: type, values: list[typing.Any], limits: Limits) -> object:
    readers = _READERS[kind]
    if len(values) != len(readers):
        raise WireError(f"{kind.__name__} has {len(readers)} fields, not {len(values)}.")
    arguments = {}
    for (name, read), value in zip(readers.items(), values, strict=True):
        try:
            arguments[name] = read(value, limits)
        except WireError as error:
            raise WireError(f"{kind.__name__}.{name}: {error}") from None
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise WireError(f"{kind.__name__} is not valid: {error}") from error


def _plain_fields(message: object) -> list[object]:
    return [_plain(getattr(message, name)) for name in _READERS[type(message)]]


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _number_reader(name: str, kind: type) -> _Reader:
    low, high = _NUMBER_BOUNDS.get(name, _COUNT)

    def read(value: object, limits: Limits) -> object:
        # A packer may write a whole float as an integer; the other way round is an error.
        if type(value) is not int and not (kind is float and type(value) is float):
            raise WireError(f"must be a number of type {kind.__name__}, not {type(value).__name__}.")
        top = limits.tokens if name == "max_tokens" else high
        if not low <= value <= top or not math.isfinite(value):
            raise WireError(f"must lie within {low} and {top}.")
        if name == "probabilities" and _SINGLE.unpack(_SINGLE.pack(value))[0] != value:
            raise WireError("must be a single float.")
        return kind(value)

    return read


def _text_reader(name: str) -> _Reader:
    def read(value: object, limits: Limits) -> object:
        longest = limits.prompt_chars if name == "prompt" else limits.text_chars
        if type(value) is not str:
            raise WireError(f"must be text, not {type(value).__name__}.")
        if len(value) > longest:
            raise WireError(f"has {len(value)} characters; at most {longest} are accepted.")
        return value

    return read


def _read_bytes(value: object, limits: Limits) -> object:
    if type(value) is not bytes:
        raise WireError(f"must be bytes, not {type(value).__name__}.")
    return value  # its length was limited where it was unpacked


def _read_bool(value: object, limits: Limits) -> object:
    if type(value) is not bool:
        raise WireError(f"must be true or false, not {type(value).__name__}.")
    return value


def _enum_reader(kind: type[enum.Enum]) -> _Reader:
    known = {(type(member.value), member.value): member for member in kind}

    def read(value: object, limits: Limits) -> object:
        member = known.get((type(value), value)) if type(value) in (int, str) else None
        if member is None:
            raise WireError(f"is not one of {', '.join(str(item.value) for item in kind)}.")
        return member

    return read


def _tuple_reader(read_item: _Reader) -> _Reader:
    def read(value: object, limits: Limits) -> object:
        if type(value) is not list:
            raise WireError(f"must be a list, not {type(value).__name__}.")
        if len(value) > limits.tokens:
            raise WireError(f"has {len(value)} entries; at most {limits.tokens} are accepted.")
        return tuple(read_item(item, limits) for item in value)

    return read


def _nested_reader(kind: type) -> _Reader:
    def read(value: object, limits: Limits) -> object:
        if type(value) is not list:
            raise WireError(f"must be the fields of a {kind.__name__}, not {type(value).__name__}.")
        return _build(kind, value, limits)

    return read


def _reader(name: str, annotation: typing.Any) -> _Reader:
    if annotation in (int, float):
        return _number_reader(name, annotation)
    if annotation is str:
        return _text_reader(name)
    if annotation is bytes:
        return _read_bytes
    if annotation is bool:
        return _read_bool
    if typing.get_origin(annotation) is tuple:
        return _tuple_reader(_reader(name, typing.get_args(annotation)[0]))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum_reader(annotation)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        _READERS[annotation] = _readers_of(annotation)
        return _nested_reader(annotation)
    raise TypeError(f"The field {name} has type {annotation}, which the wire does not know.")


def _readers_of(kind: type) -> dict[str, _Reader]:
    hints = typing.get_type_hints(kind)
    return {field.name: _reader(field.name, hints[field.name]) for field in dataclasses.fields(kind)}


_READERS: dict[typing.Any, dict[str, _Reader]] = {}
for _kind in _KINDS.values():
    _READERS[_kind] = _readers_of(_kind)
