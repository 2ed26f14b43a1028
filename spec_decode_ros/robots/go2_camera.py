"""The Go2's own front camera, through its video service."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.pictures import to_jpeg
from spec_decode_ros.robots.go2_channel import Go2Error, check_address, meaning, open_channel, require_sdk

FROZEN_S = 1.0
"""Seconds of one and the same picture after which the camera counts as hung up."""

_CALL_S = 0.5


@dataclass(frozen=True)
class Picture:
    """A new picture: JPEG bytes, and when it was asked for, time.monotonic().

    The service does not say when a picture was taken. It hands out its newest one, so the request is the latest
    moment that is not a guess: an action is never thought fresher than it is by more than one camera period.
    """

    jpeg: bytes
    asked: float


class Go2Camera:
    """Asks for pictures, in the caller's thread; the robot may come and go.

    Args:
        domain: of DDS; a Go2 uses 0.
        interface: network interface that the robot is plugged into; empty: Cyclone DDS chooses.
        max_width: pixels; wider pictures are scaled down, 0 leaves them as they are.
        quality: of JPEG pictures that are scaled.

    Raises:
        Go2Error: the SDK is missing, or the address makes no sense.
    """

    def __init__(self, domain: int = 0, interface: str = "", max_width: int = 0, quality: int = 85) -> None:
        require_sdk()
        check_address(domain, interface)
        self._domain, self._interface = domain, interface
        self._max_width, self._quality = max_width, quality
        self._client: Any = None
        self._last = b""
        self._changed = 0.0

    def look(self) -> Picture | None:
        """The camera's picture if it is new; None if it is the same as last time.

        Blocks for half a second at most, and a second longer at the first call.

        Raises:
            Go2Error: the robot is not there, or its camera has hung up; worth trying again.
            PictureError: what came is no picture.
        """
        asked, code, data = self._ask()
        if code != 0:
            raise Go2Error(f"no picture from the Go2: {meaning(code)}; is the robot on, is the cable in?")
        raw = bytes(data)
        if raw == self._last:
            if asked - self._changed > FROZEN_S:
                raise Go2Error(
                    f"the Go2's camera has given the same picture for {asked - self._changed:.1f} s; it may have "
                    "hung up: restart the robot's video service, or the robot"
                )
            return None
        self._last, self._changed = raw, asked
        return Picture(to_jpeg(raw, self._max_width, self._quality, "the Go2's picture"), asked)

    def _ask(self) -> tuple[float, int, Any]:
        try:
            if self._client is None:
                self._client = self._connect()
            asked = time.monotonic()
            return (asked, *self._client.GetImageSample())
        except Go2Error:
            raise
        except Exception as error:  # of DDS or of the SDK, which document none
            raise Go2Error(f"no picture from the Go2: DDS or the SDK failed ({error})") from error

    def _connect(self) -> Any:
        open_channel(self._domain, self._interface)
        from unitree_sdk2py.go2.video.video_client import VideoClient

        client = VideoClient()
        client.SetTimeout(_CALL_S)
        client.Init()
        return client
