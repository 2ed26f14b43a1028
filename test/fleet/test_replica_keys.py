"""Where robots need keys, replicas let in only their own balancer; without Ray, over real sockets."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from server.toys import ToyVerifier
from transport.test_secured_router import SILENT_S, Robot

from fleet.test_balancer import balancer
from fleet.test_robots_behind_balancers import ONE_ACTION, TOY_HELLO, begin
from spec_decode_ros.decoding.messages import ErrorCode
from spec_decode_ros.server.fleet.replica_keys import ReplicaKeys, temporary_keys
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.keys import make_keys, robot_keys, server_keys


def test_robots_get_to_replicas_through_the_balancer_only_and_under_their_names(tmp_path: Path) -> None:
    a, b = (robot_keys(make_keys(tmp_path, name)[0]) for name in ("a", "b"))
    with (
        temporary_keys(needed=True) as made,
        VerifierServer(ToyVerifier(), "toy", keys=server_keys(made.folder), config=ONE_ACTION) as replica,
        balancer(replica.endpoint, keys=server_keys(tmp_path), replica_keys=made.balancer) as front,
        Robot(front.endpoint, a) as one,
        Robot(front.endpoint, a) as again,
        Robot(front.endpoint, b) as two,
    ):
        assert [begin(robot, 1) for robot in (one, again, two)] == ["", ErrorCode.BUSY, ""]
        for keys in (a, None):
            with Robot(replica.endpoint, keys) as intruder:  # which speaks before it is shut out
                intruder.say(TOY_HELLO)
                assert intruder.hear(SILENT_S) is None
        folder = Path(made.folder)
        assert folder.stat().st_mode & 0o077 == 0
        handle = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # locked, so that nobody takes it for forgotten
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert not folder.exists()


def test_where_robots_need_no_keys_replicas_need_none() -> None:
    with temporary_keys(needed=False) as made:
        assert made == ReplicaKeys("", None)
