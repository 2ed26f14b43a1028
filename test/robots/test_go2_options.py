"""What can be said of the Go2 without a robot and without its SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest
from go2_robot import environment

from spec_decode_ros.robots.go2 import Go2Options
from spec_decode_ros.robots.go2_channel import Go2Error, check_address, meaning, middleware_problem
from spec_decode_ros.robots.go2_state import Go2State


@pytest.mark.parametrize(("domain", "interface"), [(0, ""), (232, "eth0"), (1, "enx00e04c-1:2@3")])
def test_addresses_that_can_be(domain: int, interface: str) -> None:
    check_address(domain, interface)


@pytest.mark.parametrize(
    ("domain", "interface"), [(-1, ""), (233, ""), (0, "eth 0"), (0, "a<b"), (0, "x" * 16)]
)
def test_addresses_that_cannot_be(domain: int, interface: str) -> None:
    with pytest.raises(Go2Error):
        check_address(domain, interface)


@pytest.mark.parametrize("silence_s", [0.0, 0.6, float("nan")])
def test_a_robot_is_not_left_in_silence_for_longer_than_half_a_second(silence_s: float) -> None:
    with pytest.raises(Go2Error, match="silence_s"):
        Go2Options(silence_s=silence_s)


def test_error_codes_have_words() -> None:
    assert meaning(3104) == "the robot did not answer in time (code 3104)"
    assert meaning(7) == "the robot refused it (code 7)"


def test_a_robot_counts_as_there_for_a_second_after_its_last_word() -> None:
    assert not Go2State().connected(100.0)
    state = Go2State(heard=100.0)
    assert state.connected(100.9)
    assert not state.connected(101.1)


@pytest.mark.parametrize(
    "make",
    [
        "robots.go2 import Go2, Go2Options; Go2(Go2Options())",
        "robots.go2_camera import Go2Camera; Go2Camera()",
    ],
)
@pytest.mark.parametrize("missing", ["unitree_sdk2py", "unitree_sdk2py.b2", "cyclonedds"])
def test_a_missing_sdk_is_one_sentence_with_the_remedy(make: str, missing: str) -> None:
    """Whole, in part as in the official wheel, or without the DDS below it."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from spec_decode_ros.errors import SpecDecodeError\n"
        f"try:\n    from spec_decode_ros.{make}\n"
        "except SpecDecodeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the Go2 needs Unitree's SDK" in done.stdout
    assert "pip install unitree-sdk2py-dimos" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("shell", "refused"),
    [
        ({}, False),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, False),
        ({"CYCLONEDDS_URI": "file:///etc/cyclonedds.xml"}, False),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, True),
    ],
)
def test_two_cyclones_in_one_process_are_refused_with_the_line_that_helps(shell, refused):
    problem = middleware_problem(shell)
    assert bool(problem) == refused
    assert ("unset RMW_IMPLEMENTATION CYCLONEDDS_URI" in problem) == refused
