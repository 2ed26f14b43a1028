"""What counts as a camera that shows nothing new."""

from __future__ import annotations

import pytest

from spec_decode_ros.edge.camera_watch import CameraWatch


class Camera:
    """A watch with a camera of 10 Hz in front of it and a robot that was told to move."""

    def __init__(self) -> None:
        self.watch = CameraWatch(timeout_s=0.35, max_age_s=0.5)
        self.now = 50.0
        self.count = 0
        self.watch.told_to_move(True, self.now)

    def show(self, picture: bytes | None = None, stamp: float | None = None) -> str:
        """0.1 s later a frame comes; what the watch says of it."""
        self.now += 0.1
        self.count += 1
        picture = str(self.count).encode() if picture is None else picture
        clock = 9000.0 + self.now
        self.watch.frame(picture, clock - 0.02 if stamp is None else stamp, clock=clock, now=self.now)
        return self.watch.look(self.now)


def test_a_camera_that_works_is_left_alone():
    camera = Camera()
    assert not any(camera.show() for _ in range(50))


def test_the_same_picture_again_and_again_is_noticed_though_its_stamps_are_new():
    camera = Camera()
    camera.show(b"wall")
    assert [bool(camera.show(b"wall")) for _ in range(5)] == [False, False, False, True, True]
    assert "very same picture" in camera.watch.blind
    assert not camera.show(), "it sees again"


def test_stamps_that_stand_still_are_noticed_though_the_pictures_differ():
    camera = Camera()
    stamp = 9000.0 + camera.now
    assert [bool(camera.show(stamp=stamp)) for _ in range(6)] == [False] * 4 + [True] * 2
    assert "stamp" in camera.watch.blind


@pytest.mark.parametrize("off", [-3.0, 3.0])
def test_stamps_of_another_time_are_noticed(off):
    camera = Camera()
    camera.show()
    assert [bool(camera.show(stamp=9000.0 + camera.now + off)) for _ in range(5)] == [False] * 3 + [True] * 2
    assert "stamped" in camera.watch.blind


def test_silence_is_noticed_without_any_frame():
    camera = Camera()
    camera.show()
    assert not camera.watch.look(camera.now + 0.34)
    assert "no frame" in camera.watch.look(camera.now + 0.36)


def test_a_standing_robot_may_look_at_a_world_that_does_not_change():
    camera = Camera()
    camera.watch.told_to_move(False, camera.now)
    assert not any(camera.show(b"wall") for _ in range(50))
    camera.watch.told_to_move(True, camera.now)
    assert [bool(camera.show(b"wall")) for _ in range(5)] == [False, False, False, True, True]


def test_standing_still_does_not_make_it_see_but_a_new_command_may_try_again():
    camera = Camera()
    for _ in range(6):
        camera.show(b"wall")
    camera.watch.told_to_move(False, camera.now)
    assert camera.show(b"wall")
    camera.watch.reset()
    assert not camera.show(b"wall")
