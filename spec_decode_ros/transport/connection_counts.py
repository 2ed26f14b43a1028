"""Which robot has how many connections, and whose has to go where there is no room for one more. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class ConnectionCounts:
    """Connections by the name of their robot; those without a name do not count against each other."""

    def __init__(self) -> None:
        self._of_robot: dict[str, list[bytes]] = {}

    def add(self, robot: str, client: bytes) -> None:
        """A connection more, which the crowd does not know yet."""
        if robot:
            self._of_robot.setdefault(robot, []).append(client)

    def remove(self, robot: str, client: bytes) -> None:
        """A connection less."""
        if robot:
            own = self._of_robot[robot]
            own.remove(client)
            if not own:
                del self._of_robot[robot]

    def of(self, robot: str) -> Sequence[bytes]:
        """The connections of one robot."""
        return self._of_robot.get(robot, [])

    def gives_way_to(self, robot: str) -> Sequence[bytes]:
        """The connections of the robot that has the most, if it has more than `robot` would have with one more."""
        if not robot:
            return []
        most = max(self._of_robot.values(), key=len, default=[])
        return most if len(most) > len(self.of(robot)) + 1 else []
