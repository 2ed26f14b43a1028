"""Log lines of a service, for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from spec_decode_ros.server import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("spec_decode_ros")
    before = (list(root.handlers), root.level, ours.level)
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = before[0], before[1]
    ours.setLevel(before[2])


def lines(format: str, level: str = "info") -> list[str]:
    stream = io.StringIO()
    logs.set_up(format, level, stream)
    log = logging.getLogger("spec_decode_ros.test")
    log.debug("too small")
    log.info("robot %s\nis in", "go2", extra={"robot": "go2", "action_id": 7, "path": pytest, "_note": 1})
    try:
        raise ValueError("a bug")
    except ValueError:
        log.exception("failed")
    logging.getLogger("another.library").info("chatter")
    logging.getLogger("another.library").warning("beware")
    return stream.getvalue().splitlines()


def test_json_is_one_object_a_line_with_the_fields() -> None:
    entries = [json.loads(line) for line in lines("json")]
    assert [entry["message"] for entry in entries] == ["robot go2\nis in", "failed", "beware"]
    first, failed, _ = entries
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert (first["level"], first["logger"]) == ("info", "spec_decode_ros.test")
    assert (first["robot"], first["action_id"]) == ("go2", 7)
    assert isinstance(first["path"], str)
    assert "_note" not in first
    assert "ValueError: a bug" in failed["exception"]
    assert "exception" not in first


def test_text_has_the_same() -> None:
    first = lines("text")[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z INFO: robot go2", first)
    text = "\n".join(lines("text"))
    assert "is in action_id=7 path=" in text
    assert "robot=" not in text, "the message says it"
    assert "ValueError: a bug" in text
    assert "chatter" not in text


def test_levels_and_setting_up_twice() -> None:
    assert len(lines("json", "error")) == 2  # the failure, and the other library's warning
    assert len([line for line in lines("json", "debug") if "too small" in line]) == 1


def flood(count: int, created: float, log: logging.Logger) -> None:
    for index in range(count):
        record = log.makeRecord(
            log.name, logging.WARNING, __file__, 1, "an action failed: %s", (str(index),), None
        )
        record.created = created
        log.handle(record)


def test_what_is_repeated_is_left_out_and_counted() -> None:
    stream = io.StringIO()
    logs.set_up("json", "info", stream)
    log = logging.getLogger("spec_decode_ros.test")
    flood(500, 1000.0, log)
    log.warning("something else")
    flood(1, 1000.0 + logs.REPEAT_S, log)
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [entry["message"] for entry in entries[-2:]] == ["something else", "an action failed: 0"]
    assert len(entries) == logs.REPEATS + 2
    assert "left out" in entries[logs.REPEATS - 1]["note"] and "note" not in entries[0]
    assert entries[-1]["left_out"] == 500 - logs.REPEATS


def test_kinds_that_are_remembered_are_bounded() -> None:
    limit = logs.RepeatLimit()
    for line in range(10_000):
        record = logging.LogRecord("a", logging.ERROR, __file__, line, "text", None, None)
        assert limit.filter(record)
    assert len(limit._kinds) <= 1000


def test_less_than_a_warning_is_never_left_out() -> None:
    stream = io.StringIO()
    logs.set_up("text", "info", stream)
    for number in range(100):
        logging.getLogger("spec_decode_ros.test").info("robot %d is in", number)
    assert len(stream.getvalue().splitlines()) == 100


def test_warnings_of_python_are_log_lines_too() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.set_up("json", "info", stream)
        warnings.warn("a library\nwarns", UserWarning, stacklevel=1)
    (entry,) = map(json.loads, stream.getvalue().splitlines())
    assert entry["level"] == "warning" and "a library\nwarns" in entry["message"]


def test_libraries_with_handlers_of_their_own_write_json_too() -> None:
    code = (
        "import logging, warnings, torch, transformers\n"
        "from transformers.utils import logging as theirs\n"
        "from spec_decode_ros.server import logs\n"
        "logs.set_up('json', 'info')\n"
        "logs.adopt_libraries()\n"
        "theirs.get_logger('transformers.modeling').warning('beware')\n"
        "logging.getLogger('torch._inductor.async_compile').warning('beware too')\n"
        "warnings.warn('of Python', stacklevel=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert said[:2] == ["beware", "beware too"] and "of Python" in said[2] and len(said) == 3
