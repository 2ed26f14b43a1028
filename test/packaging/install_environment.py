"""Copies of the source and small virtual environments, so that no install touches the one that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_BEHIND = (
    ".git",
    ".venv",
    "build",
    "install",
    "log",
    "dist",
    "out",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
)


class Environment:
    """A virtual environment that also sees every package of the Python that runs the tests."""

    def __init__(self, prefix: Path, packages: Sequence[str] = ()) -> None:
        self.prefix = prefix
        self.bin = prefix / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True, timeout=120)
        if packages:
            # Before the link, so that pip meets no package of the outer environment.
            self.pip("install", "-q", *packages)
        purelib = self.output(
            "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
        self.site_packages = Path(purelib)
        (self.site_packages / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def pip(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments]
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def environment(self, **more: str) -> dict[str, str]:
        outer = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")
        }
        path = f"{self.bin}{os.pathsep}{outer.get('PATH', '')}"
        return {**outer, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}

    def run(
        self, command: str, *arguments: object, cwd: Path | None = None, timeout: float = 300, **more: str
    ):
        """Run a program of the environment, or an absolute path, away from the source."""
        program = command if command.startswith("/") else str(self.bin / command)
        return subprocess.run(
            [program, *map(str, arguments)],
            cwd=cwd or self.prefix,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def output(self, command: str, *arguments: object, **more: str) -> str:
        done = self.run(command, *arguments, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
