"""The states of one action, on the edge and in the cloud, and the transitions between them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

State = TypeVar("State", bound=enum.Enum)
Event = TypeVar("Event", bound=enum.Enum)


class EdgeState(enum.Enum):
    NEW = "not started"
    OPENING = "Open is sent and nothing was heard"
    TURNED_AWAY = "the cloud is full, and will be asked again"
    OPEN = "the cloud works on the action"
    ALONE = "the draft model answers without the cloud"
    DONE = "over"


class EdgeEvent(enum.Enum):
    OPEN = enum.auto()
    HEARD = enum.auto()
    FORGOTTEN = enum.auto()
    TURN_AWAY = enum.auto()
    ASK_AGAIN = enum.auto()
    GO_ALONE = enum.auto()
    END = enum.auto()


EDGE_TRANSITIONS: dict[EdgeState, dict[EdgeEvent, EdgeState]] = {
    EdgeState.NEW: {EdgeEvent.OPEN: EdgeState.OPENING, EdgeEvent.GO_ALONE: EdgeState.ALONE},
    EdgeState.OPENING: {
        EdgeEvent.HEARD: EdgeState.OPEN,
        EdgeEvent.FORGOTTEN: EdgeState.OPENING,
        EdgeEvent.TURN_AWAY: EdgeState.TURNED_AWAY,
        EdgeEvent.GO_ALONE: EdgeState.ALONE,
        EdgeEvent.END: EdgeState.DONE,
    },
    EdgeState.TURNED_AWAY: {
        EdgeEvent.HEARD: EdgeState.OPEN,
        EdgeEvent.FORGOTTEN: EdgeState.TURNED_AWAY,
        EdgeEvent.TURN_AWAY: EdgeState.TURNED_AWAY,
        EdgeEvent.ASK_AGAIN: EdgeState.OPENING,
        EdgeEvent.GO_ALONE: EdgeState.ALONE,
        EdgeEvent.END: EdgeState.DONE,
    },
    EdgeState.OPEN: {
        EdgeEvent.HEARD: EdgeState.OPEN,
        EdgeEvent.FORGOTTEN: EdgeState.OPENING,
        EdgeEvent.TURN_AWAY: EdgeState.TURNED_AWAY,
        EdgeEvent.GO_ALONE: EdgeState.ALONE,
        EdgeEvent.END: EdgeState.DONE,
    },
    EdgeState.ALONE: {EdgeEvent.END: EdgeState.DONE},
    EdgeState.DONE: {},
}

WITH_CLOUD = frozenset({EdgeState.OPENING, EdgeState.TURNED_AWAY, EdgeState.OPEN})
"""The states in which a server may still answer."""


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


CLOUD_TRANSITIONS: dict[CloudState, dict[CloudEvent, CloudState]] = {
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


def next_state(transitions: Mapping[State, Mapping[Event, State]], state: State, event: Event) -> State:
    """The state after an event; raises RuntimeError where there is no such transition."""
    try:
        return transitions[state][event]
    except KeyError:
        raise RuntimeError(
            f"{type(state).__name__}.{state.name} has no transition for {event.name}."
        ) from None
