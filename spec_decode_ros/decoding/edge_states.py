"""The states of one action on the edge, and every way from one to the next."""

from __future__ import annotations

import enum


class State(enum.Enum):
    NEW = "not started"
    OPENING = "Open is sent and nothing was heard"
    TURNED_AWAY = "the cloud is full, and will be asked again"
    OPEN = "the cloud works on the action"
    ALONE = "the draft model answers without the cloud"
    DONE = "over"


class Event(enum.Enum):
    OPEN = enum.auto()
    HEARD = enum.auto()
    FORGOTTEN = enum.auto()
    TURN_AWAY = enum.auto()
    ASK_AGAIN = enum.auto()
    GO_ALONE = enum.auto()
    END = enum.auto()


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.NEW: {Event.OPEN: State.OPENING, Event.GO_ALONE: State.ALONE},
    State.OPENING: {
        Event.HEARD: State.OPEN,
        Event.FORGOTTEN: State.OPENING,
        Event.TURN_AWAY: State.TURNED_AWAY,
        Event.GO_ALONE: State.ALONE,
        Event.END: State.DONE,
    },
    State.TURNED_AWAY: {
        Event.HEARD: State.OPEN,
        Event.FORGOTTEN: State.TURNED_AWAY,
        Event.TURN_AWAY: State.TURNED_AWAY,
        Event.ASK_AGAIN: State.OPENING,
        Event.GO_ALONE: State.ALONE,
        Event.END: State.DONE,
    },
    State.OPEN: {
        Event.HEARD: State.OPEN,
        Event.FORGOTTEN: State.OPENING,
        Event.TURN_AWAY: State.TURNED_AWAY,
        Event.GO_ALONE: State.ALONE,
        Event.END: State.DONE,
    },
    State.ALONE: {Event.END: State.DONE},
    State.DONE: {},
}

WITH_CLOUD = frozenset({State.OPENING, State.TURNED_AWAY, State.OPEN})
"""The states in which a server may still answer."""
