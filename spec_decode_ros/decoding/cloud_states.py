"""The states of one action in the cloud and the transitions between them."""

from __future__ import annotations

import enum


class CloudState(enum.Enum):
    NEW = "nothing but drafts that overtook their Open"
    PREPARING = "the driver makes the prompt ready"
    WAITING = "the target is free for a draft"
    PASSING = "the target runs"
    DONE = "the whole answer is committed"
    FAILED = "the action failed; every poll is told why"
    CLOSING = "closed while the driver is at work"
    CLOSED = "over"


class CloudEvent(enum.Enum):
    OPEN = enum.auto()
    PREPARED = enum.auto()
    PASS = enum.auto()
    PASSED = enum.auto()
    ENDED = enum.auto()
    FAIL = enum.auto()
    CLOSE = enum.auto()


TRANSITIONS: dict[CloudState, dict[CloudEvent, CloudState]] = {
    CloudState.NEW: {
        CloudEvent.OPEN: CloudState.PREPARING,
        CloudEvent.FAIL: CloudState.FAILED,
        CloudEvent.CLOSE: CloudState.CLOSED,
    },
    CloudState.PREPARING: {
        CloudEvent.PREPARED: CloudState.WAITING,
        CloudEvent.FAIL: CloudState.FAILED,
        CloudEvent.CLOSE: CloudState.CLOSING,
    },
    CloudState.WAITING: {
        CloudEvent.PASS: CloudState.PASSING,
        CloudEvent.ENDED: CloudState.DONE,
        CloudEvent.FAIL: CloudState.FAILED,
        CloudEvent.CLOSE: CloudState.CLOSED,
    },
    CloudState.PASSING: {
        CloudEvent.PASSED: CloudState.WAITING,
        CloudEvent.ENDED: CloudState.DONE,
        CloudEvent.FAIL: CloudState.FAILED,
        CloudEvent.CLOSE: CloudState.CLOSING,
    },
    CloudState.DONE: {CloudEvent.CLOSE: CloudState.CLOSED},
    CloudState.FAILED: {CloudEvent.CLOSE: CloudState.CLOSED},
    CloudState.CLOSING: {
        CloudEvent.PREPARED: CloudState.CLOSED,
        CloudEvent.PASSED: CloudState.CLOSED,
        CloudEvent.FAIL: CloudState.CLOSED,
    },
    CloudState.CLOSED: {},
}
