"""Making the SDK's clients from several threads, which Cyclone DDS by itself does not bear."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("unitree_sdk2py", reason="unitree_sdk2py is not installed: the Go2 needs it")

from unitree_sdk2py.go2.obstacles_avoid import obstacles_avoid_client
from unitree_sdk2py.go2.sport import sport_client

from spec_decode_ros.robots.go2_channel import robot_clients


def test_one_thread_at_a_time_makes_clients(monkeypatch):
    """The real ones fail in about one of ten runs when made at once, which is too rare for a test."""
    making = threading.Lock()
    overlaps = []

    class Slow:
        def __init__(self) -> None:
            if not making.acquire(blocking=False):
                overlaps.append(threading.current_thread().name)
                return
            time.sleep(0.02)
            making.release()

        def SetTimeout(self, seconds: float) -> None:
            self.timeout_s = seconds

        def Init(self) -> None:
            time.sleep(0.001)

    monkeypatch.setattr(sport_client, "SportClient", Slow)
    monkeypatch.setattr(obstacles_avoid_client, "ObstaclesAvoidClient", Slow)
    made: list[object] = []
    threads = [threading.Thread(target=lambda: made.extend(robot_clients(0.3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert len(made) == 8
    assert {client.timeout_s for client in made} == {0.3}
    assert not overlaps
