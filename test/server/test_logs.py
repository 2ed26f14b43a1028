"""Log lines of a service, for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from spec_decode_ros.server import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("spec_decode_ros")
    before = (list(root.handlers), root.level, ours.level)
    yield
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
