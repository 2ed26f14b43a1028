"""Launch files as `ros2 launch` runs them, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ros_session import REPOSITORY, STARTS_S, environment, wait_for

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
]))
sys.exit(service.run())
"""


def add_executable(prefix: Path, package: str, name: str, python_arguments: str) -> None:
    """A program where launch looks for those of a package, which it makes known."""
    (prefix / "share" / "ament_index" / "resource_index" / "packages" / package).touch()
    script = prefix / "lib" / package / name
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {python_arguments} "$@"\n')
    script.chmod(0o755)


class Launched:
    """A launch file that runs in a process of its own."""

    def __init__(self, file: str, prefix: Path, output: Path, **arguments: object) -> None:
        env = environment()
        paths = [str(prefix), *filter(None, [env.get("AMENT_PREFIX_PATH")])]
        env["AMENT_PREFIX_PATH"] = os.pathsep.join(paths)
        env["ROS_LOG_DIR"] = str(output.parent / "log")
        self._path = output
        self._file = output.open("wb")
        words = [f"{name}:={value}" for name, value in arguments.items()]
        self.popen = subprocess.Popen(
            [sys.executable, "-c", RUN, str(REPOSITORY / "launch" / file), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def wait_until_it_says(self, words: str) -> None:
        def said() -> bool:
            assert self.popen.poll() is None, self.output
            return words in self.output

        wait_for(said, f"{words!r}", STARTS_S)

    def interrupt(self) -> str:
        """An impatient Ctrl-C; everything has to end by itself and with code 0, the launch as well. What was said.

        A terminal sends it to the whole group, launch passes it on to the nodes, and the operator presses again.
        """
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        nodes = [int(word) for word in children.read_text().split()]
        os.killpg(self.popen.pid, signal.SIGINT)
        for _ in range(3):
            time.sleep(0.05)
            for node in nodes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node, signal.SIGINT)
        assert self.popen.wait(60) == 0, self.output
        assert "Traceback" not in self.output, self.output
        assert "process has died" not in self.output, self.output
        return self.output

    def close(self) -> None:
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait(30)
        self._file.close()
