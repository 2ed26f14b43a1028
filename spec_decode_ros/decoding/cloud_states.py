"""The states of one action in the cloud, and every way from one to the next."""

from __future__ import annotations

import enum


class State(enum.Enum):
    NEW = "nothing but drafts that overtook their Open"
    PREPARING = "the driver makes the prompt ready"
    WAITING = "the target is free for a draft"
    PASSING = "the target runs"
    DONE = "the whole answer is committed"
    FAILED = "the action failed; every poll is told why"
    CLOSING = "closed while the driver is at work"
    CLOSED = "over"


class Event(enum.Enum):
    OPEN = enum.auto()
    PREPARED = enum.auto()
    PASS = enum.auto()
    PASSED = enum.auto()
    ENDED = enum.auto()
    FAIL = enum.auto()
    CLOSE = enum.auto()


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.NEW: {
        Event.OPEN: State.PREPARING,
        Event.FAIL: State.FAILED,
        Event.CLOSE: State.CLOSED,
    },
    State.PREPARING: {
        Event.PREPARED: State.WAITING,
        Event.FAIL: State.FAILED,
        Event.CLOSE: State.CLOSING,
    },
    State.WAITING: {
        Event.PASS: State.PASSING,
        Event.ENDED: State.DONE,
        Event.FAIL: State.FAILED,
        Event.CLOSE: State.CLOSED,
    },
    State.PASSING: {
        Event.PASSED: State.WAITING,
        Event.ENDED: State.DONE,
        Event.FAIL: State.FAILED,
        Event.CLOSE: State.CLOSING,
    },
    State.DONE: {Event.CLOSE: State.CLOSED},
    State.FAILED: {Event.CLOSE: State.CLOSED},
    State.CLOSING: {
        Event.PREPARED: State.CLOSED,
        Event.PASSED: State.CLOSED,
        Event.FAIL: State.CLOSED,
    },
    State.CLOSED: {},
}
