"""The states of one action on the edge and the transitions between them."""

from __future__ import annotations

import enum


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


TRANSITIONS: dict[EdgeState, dict[EdgeEvent, EdgeState]] = {
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
