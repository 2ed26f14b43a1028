"""Logs of a service: lines for people, or one JSON object a line for log collectors.

Code logs as usual and names what belongs to a message in ``extra=``: ``log.warning("refused", extra={"robot": ...})``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO

from spec_decode_ros.printable import printable

_OURS = "spec_decode_ros"
_HANDLER = "spec_decode_ros service"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest was given as `extra`."""


REPEATS = 10
REPEAT_S = 10.0
_MOST_KINDS = 1000


def set_up(format: str, level: str, stream: IO[str] | None = None) -> None:
    """Log this package from `level` on, and everything else from warnings on, those of `warnings.warn` included.

    A warning or error that comes again and again is left out, and counted; see `RepeatLimit`.

    Args:
        format: text or json.
        level: debug, info, warning or error.
        stream: standard error by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(_HANDLER)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    handler.addFilter(RepeatLimit())
    logging.captureWarnings(True)
    root = logging.getLogger()
    for other in [known for known in root.handlers if known.get_name() == _HANDLER]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())


def adopt_libraries() -> None:
    """Let libraries that were imported and write to standard error themselves log as everything else does."""
    known = list(logging.root.manager.loggerDict.values())
    for logger in [each for each in known if isinstance(each, logging.Logger)]:
        own = [each for each in logger.handlers if getattr(each, "stream", None) in (sys.stderr, sys.stdout)]
        for handler in own:
            logger.removeHandler(handler)
        logger.propagate = logger.propagate or bool(own)


@dataclass
class _Kind:
    """How often lines of one place in the code came since `since`."""

    since: float
    count: int = 0


class RepeatLimit(logging.Filter):
    """Lets warnings and errors of one place in the code through ten times in ten seconds.

    The last of them has a ``note``, and the first one afterwards says in ``left_out`` how many there were in between.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._kinds: dict[tuple[str, str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            return self._counted(record)

    def _counted(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.pathname, record.lineno)
        kind = self._kinds.pop(key, None)
        if kind is None or not kind.since <= record.created < kind.since + REPEAT_S:
            if kind is not None and kind.count > REPEATS:
                record.left_out = kind.count - REPEATS
            kind = _Kind(record.created)
        self._kinds[key] = kind  # the newest is last
        if len(self._kinds) > _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        kind.count += 1
        if kind.count == REPEATS:
            record.note = f"further ones are left out for up to {REPEAT_S:g} s"
        return kind.count <= REPEATS


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: value for name, value in given.items() if not name.startswith("_")}  # libraries' own notes


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """Time in UTC, level, message, then those fields as ``name=value`` that the message does not say already."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback where there is one."""
        message = printable(record.getMessage())
        fields = [
            f" {name}={printable(str(value))}"
            for name, value in _fields(record).items()
            if not isinstance(value, str) or printable(value) not in message
        ]
        line = f"{_time(record)} {record.levelname}: {message}{''.join(fields)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``pid``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, also for a message with line ends; a traceback is in ``exception``."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        entry = {**entry, **_fields(record), **entry}  # in this order, and no field takes the place of these
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)
