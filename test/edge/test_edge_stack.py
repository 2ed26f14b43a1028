"""What the robot's stack is told is read before its models are loaded."""

from __future__ import annotations

import pytest

from spec_decode_ros.edge.stack import DECODING, EdgeStack
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.desk_stack import DeskStackOptions


def test_an_endpoint_that_is_none_is_said_before_anything_is_loaded() -> None:
    told = {setting.name: setting.default for setting in DECODING}
    told |= {"pair": "tiny", "deadline": 1.0, "on_link_loss": "stop", "device": "no such device"}
    with pytest.raises(SpecDecodeError, match="'99999' is no port"):
        EdgeStack({**told, "endpoint": "tcp://127.0.0.1:99999"})
    with pytest.raises(SpecDecodeError, match="0 is no port to connect to"):
        DeskStackOptions("tiny", endpoint="tcp://127.0.0.1:5555,tcp://127.0.0.1:0")
