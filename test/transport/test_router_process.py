"""The socket in a process of its own: what ends it does not end the server, nor what the server knows of its robots."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from spec_decode_ros.decoding.messages import Open, Opened, Ping, Pong
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport import router_process
from spec_decode_ros.transport.keys import make_keys, robot_keys
from spec_decode_ros.transport.process import child_environment
from spec_decode_ros.transport.router_process import RouterProcess

from .test_secured_router import HELLO, WAIT_S, WELCOME, Guarded, Robot, eventually

FIRST_DRAWN = 1_804_289_383
"""The first number that libc draws without a seed, and so libzmq's first routing id."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Guarded]:
    served = Guarded(folder, own_process=True)
    try:
        yield served
    finally:
        served.server.stop()


def worker(served: Guarded) -> int:
    router = served.server._router
    assert isinstance(router, RouterProcess)
    return router.pid


def hears_again(robot: Robot, number: int) -> bool:
    """Whether the robot gets an answer to a ping, as often as it asks; what was sent before may be lost."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        robot.say(Ping(number))
        if robot.hear(0.2) == Pong(number):
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL])
def test_an_end_of_the_process_costs_no_robot_its_session(tmp_path: Path, number: int) -> None:
    (own,) = make_keys(tmp_path)
    with serving(tmp_path) as served, Robot(served.endpoint, robot_keys(own), b"always the same") as robot:
        assert robot.ask(HELLO) == WELCOME
        for ends in range(1, 4):
            before = worker(served)
            os.kill(before, number)
            assert eventually(lambda before=before: worker(served) != before)
            assert hears_again(robot, ends)
            while robot.hear(0.3) is not None:  # answers to the pings before
                pass
            assert robot.ask(Open(ends, "go on")) == Opened(ends)  # without another hello
        assert served.gone.empty()


def test_nobody_can_take_the_routing_id_that_is_drawn_next(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    keys = robot_keys(own)
    with serving(tmp_path) as served, Robot(served.endpoint, keys) as robot, contextlib.ExitStack() as stack:
        assert robot.ask(HELLO) == WELCOME
        before = worker(served)
        for number in range(FIRST_DRAWN, FIRST_DRAWN + 6):
            forged = b"\0" + number.to_bytes(4, "big")
            assert stack.enter_context(Robot(served.endpoint, keys, forged)).ask(Ping(1)) == Pong(1)
            assert stack.enter_context(Robot(served.endpoint, keys)).ask(Ping(2)) == Pong(2)
        assert worker(served) == before


def test_a_pause_ends_nothing(tmp_path: Path) -> None:
    """Stopped for longer than heartbeats may be missed, while robots send more than a queue holds."""
    (own,) = make_keys(tmp_path)
    keys = robot_keys(own)
    with serving(tmp_path) as served, contextlib.ExitStack() as stack:
        robots = []
        for number in range(4):
            robot = stack.enter_context(Robot(served.endpoint, keys, b"robot %d" % number))
            for option, value in ((zmq.HEARTBEAT_IVL, 1000), (zmq.HEARTBEAT_TIMEOUT, 3000)):
                robot.sock.setsockopt(option, value)
            robot.sock.disconnect(served.endpoint)
            robot.sock.connect(served.endpoint)  # with the heartbeats
            assert robot.ask(HELLO) == WELCOME
            robots.append(robot)
        before = worker(served)
        os.kill(before, signal.SIGSTOP)
        try:
            for robot in robots:
                for number in range(60):
                    robot.say(Ping(number))
            time.sleep(5.0)
        finally:
            os.kill(before, signal.SIGCONT)
        assert all(hears_again(robot, 99) for robot in robots)
        time.sleep(2.0)  # heartbeats that follow
        assert worker(served) == before


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_ends_with_the_server_and_leaves_its_address(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with serving(tmp_path) as served:
        first, endpoint, folder = worker(served), served.endpoint, Path(served.server._router._folder.name)  # type: ignore[union-attr]
        assert folder.is_dir()
    assert ended(first) and not folder.exists()
    again = Guarded(tmp_path, own_process=True, bind=endpoint)
    assert again.endpoint == endpoint
    again.server.stop()


def test_it_ends_with_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, zmq; from spec_decode_ros.transport.router_process import RouterProcess; "
        "router = RouterProcess(zmq.Context(), 'tcp://127.0.0.1:*', None); "
        "print(router.pid, router._folder.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert not ended(int(pid))
        parent.kill()
    assert eventually(lambda: ended(int(pid)))
    assert not Path(folder).exists()


def test_the_last_answers_leave_before_it_ends(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    with serving(tmp_path) as served, Robot(served.endpoint, robot_keys(own), b"robot") as robot:
        assert robot.ask(HELLO) == WELCOME
        client = b"robot"
        for number in range(1, 301):
            served.server.send(client, Opened(number))
        served.server.stop()
        assert [robot.hear() for _ in range(300)] == [Opened(number) for number in range(1, 301)]


def test_one_that_hangs_is_ended_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = make_keys(tmp_path)
    with serving(tmp_path) as served, Robot(served.endpoint, robot_keys(own), b"always the same") as robot:
        assert robot.ask(HELLO) == WELCOME
        monkeypatch.setattr(router_process, "SILENT_S", 2.0)
        monkeypatch.setattr(router_process, "_START_S", 3.0)
        before = worker(served)
        os.kill(before, signal.SIGSTOP)
        assert eventually(lambda: worker(served) != before)
        assert hears_again(robot, 1)


def test_what_can_not_be_bound_is_said_in_a_sentence(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with serving(tmp_path) as served, pytest.raises(SpecDecodeError, match="choose a free address"):
        RouterProcess(zmq.Context.instance(), served.endpoint, None)
    with pytest.raises(SpecDecodeError, match="can be reached from other machines"):
        RouterProcess(zmq.Context.instance(), "tcp://0.0.0.0:*", None)
