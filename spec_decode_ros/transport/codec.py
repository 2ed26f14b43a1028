"""Codec between messages and ZeroMQ frames.

The first frame is a version byte followed by a msgpack array: a number for the kind of message, then its fields
in the order of the dataclass. Nested values are arrays again, enums their values. Every image is a frame of its own, so
that it is never copied into or out of the packed part. Draft probabilities are single floats, which hold them exactly.

Input is not trusted: types are exact, numbers within bounds, texts, lists and frames no longer than the limits below.
Anything else raises :class:`WireError` and nothing but that. Field types come from the dataclasses in
:mod:`spec_decode_ros.decoding.messages`; only the bounds are written by hand.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
import typing
from collections.abc import Sequence
from typing import Any

import msgpack

from spec_decode_ros.decoding import messages
from spec_decode_ros.decoding.messages import Message, Open
from spec_decode_ros.errors import SpecDecodeError

WIRE_VERSION = 1
"""First byte of every message; changes when the packing does (`messages.PROTOCOL` when the vocabulary does)."""

MAX_MESSAGE_BYTES = 256 * 1024
MAX_IMAGES = 8
MAX_IMAGE_BYTES = 4 * 1024 * 1024
"""Of all images of a message together."""
MAX_FRAMES = 1 + MAX_IMAGES
MAX_FRAME_BYTES = max(MAX_MESSAGE_BYTES, MAX_IMAGE_BYTES)
"""ZeroMQ drops the connection of a peer that sends a larger frame."""
MAX_TOKENS = 4096
MAX_PROMPT_CHARS = 16_384
MAX_TEXT_CHARS = 1_000
MAX_PACKED_BYTES = 16_384

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
_BOUNDS: dict[str, tuple[float, float]] = {
    "action_id": (0, 2**63 - 1),
    "stamp": (0, 2**63 - 1),
    "seed": (0, 2**64 - 1),
    "max_tokens": (0, MAX_TOKENS),
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

_SINGLE = struct.Struct("<f")


class WireError(SpecDecodeError):
    """The frames are not a message that this side accepts."""


def encode(message: Message, images: Sequence[bytes] = ()) -> list[bytes]:
    """Frames of `message`; `images` are JPEG bytes and go only with an `Open` that counts them.

    Raises WireError if the value is not a message, or does not count as many images.
    """
    number = _NUMBERS.get(type(message))
    if number is None:
        raise WireError(f"{type(message).__name__} is not a message.")
    counted = getattr(message, "images", 0)
    if len(images) != counted:
        raise WireError(f"{len(images)} images go with a message that counts {counted}.")
    try:
        single = isinstance(message, messages.Draft)  # all its floats are float32 numbers
        packed = msgpack.packb([number, *_plain(message)], use_bin_type=True, use_single_float=single)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"A {type(message).__name__} holds a value that can't be sent: {error}.") from error
    return [bytes([WIRE_VERSION]) + packed, *images]


def decode(
    frames: Sequence[bytes], accept: tuple[type, ...] = UP + DOWN
) -> tuple[Message, tuple[bytes, ...]]:
    """The message in `frames` and its images.

    Raises WireError for anything but exactly one message of a kind in `accept`, within the limits.
    """
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise WireError(f"A message has 1 to {MAX_FRAMES} frames, not {len(frames)}.")
    fields = _unpack(frames[0])
    kind = _KINDS.get(fields[0]) if fields and type(fields[0]) is int else None
    if kind is None:
        raise WireError("The message is of an unknown kind; compare the versions of both sides.")
    if kind not in accept:
        raise WireError(f"A {kind.__name__} is not accepted on this side.")
    message = _build(kind, fields[1:])
    images = tuple(frames[1:])
    counted = message.images if isinstance(message, Open) else 0
    if counted != len(images):
        raise WireError(f"{kind.__name__} counts {counted} images, but {len(images)} came with it.")
    for image in images:
        if not 1 <= len(image) <= MAX_IMAGE_BYTES:
            raise WireError(f"An image has {len(image)} bytes; 1 to {MAX_IMAGE_BYTES} are accepted.")
    if (together := sum(map(len, images))) > MAX_IMAGE_BYTES:
        raise WireError(f"The images have {together} bytes together; at most {MAX_IMAGE_BYTES} are accepted.")
    return typing.cast(Message, message), images


def _unpack(frame: bytes) -> list[Any]:
    if not 2 <= len(frame) <= MAX_MESSAGE_BYTES:
        raise WireError(
            f"A message has {len(frame)} bytes without images; 2 to {MAX_MESSAGE_BYTES} are accepted."
        )
    if frame[0] != WIRE_VERSION:
        raise WireError(
            f"The peer packs in version {frame[0]}, this side in {WIRE_VERSION}; update the older one."
        )
    try:
        value = msgpack.unpackb(
            frame[1:],
            raw=False,
            use_list=True,
            max_array_len=MAX_TOKENS,
            max_str_len=4 * max(MAX_PROMPT_CHARS, MAX_TEXT_CHARS),
            max_bin_len=MAX_PACKED_BYTES,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:  # msgpack raises several unrelated types for malformed bytes
        raise WireError(f"The message can't be unpacked ({type(error).__name__}).") from error
    if type(value) is not list:
        raise WireError("The message is not an array of fields.")
    return value


def _plain(value: Any) -> Any:
    """`value` as msgpack packs it."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(kind: type, values: list[Any]) -> Any:
    """A message or nested value of this dataclass from its unpacked fields."""
    fields = _fields(kind)
    if len(values) != len(fields):
        raise WireError(f"{kind.__name__} has {len(fields)} fields, not {len(values)}.")
    arguments = {}
    for (name, annotation), value in zip(fields.items(), values, strict=True):
        try:
            arguments[name] = _read(name, annotation, value)
        except WireError as error:
            raise WireError(f"{kind.__name__}.{name}: {error}") from None
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise WireError(f"{kind.__name__} is not valid: {error}") from error


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    """Names and types of the fields of a dataclass, in order."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _read(name: str, kind: Any, value: Any) -> Any:
    """The unpacked `value` of the field `name`, checked, as its type `kind`."""
    if kind is int or kind is float:
        # A packer may write a whole float as an integer; the other way round is an error.
        if type(value) is not int and not (kind is float and type(value) is float):
            raise WireError(f"must be a number of type {kind.__name__}, not {type(value).__name__}.")
        low, high = _BOUNDS.get(name, _COUNT)
        if not low <= value <= high:  # nor NaN
            raise WireError(f"must lie within {low} and {high}.")
        if name == "probabilities" and _SINGLE.unpack(_SINGLE.pack(value))[0] != value:
            raise WireError("must be a single float.")
        return kind(value)
    if kind is str:
        _check_type(value, str, "text")
        longest = MAX_PROMPT_CHARS if name == "prompt" else MAX_TEXT_CHARS
        if len(value) > longest:
            raise WireError(f"has {len(value)} characters; at most {longest} are accepted.")
        return value
    if kind is bytes or kind is bool:  # the length of bytes and lists was limited when they were unpacked
        _check_type(value, kind, "bytes" if kind is bytes else "true or false")
        return value
    if isinstance(kind, enum.EnumMeta):
        if type(value) in (int, str) and value in kind._value2member_map_:
            return kind(value)
        raise WireError(f"is not one of {', '.join(map(str, kind._value2member_map_))}.")
    if typing.get_origin(kind) is tuple:
        _check_type(value, list, "a list")
        item_kind = typing.get_args(kind)[0]
        return tuple([_read(name, item_kind, item) for item in value])
    _check_type(value, list, f"the fields of a {kind.__name__}")
    return _build(kind, value)


def _check_type(value: object, kind: type, description: str) -> None:
    if type(value) is not kind:
        raise WireError(f"must be {description}, not {type(value).__name__}.")
