"""Say what is installed and what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from spec_decode_ros import __version__
from spec_decode_ros.commands._options import add_json, finish
from spec_decode_ros.extras import MODULES, missing_module_sentence

_PROBE_TIMEOUT_S = 60.0

JOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": (
        "the whole system on this machine, in simulation",
        ("core", "models", "pair tiny", "simulator", "ROS 2", "bags", "plots"),
    ),
    "robot": ("drafting on the robot (drafter_node, motion_node)", ("core", "models", "pair tiny", "ROS 2")),
    "cloud": ("verifying in the cloud (spec-decode serve)", ("core", "models", "pair tiny")),
}
"""What each job is, and the groups of findings that it needs."""

_GROUPS = {
    None: "core",
    "drafter": "models",
    "sim": "simulator",
    "ros": "ROS 2",
    "bags": "bags",
    "plot": "plots",
}
_GROUPS |= {"camera": "robot camera", "go2": "Unitree Go2", "teleop": "terminal", "text": "text pair"}
_GROUPS |= {"grammar": "grammars", "metrics": "metrics", "ray": "replicas"}
# A machine has one side of the link, and rarely all of these.
_OPTIONAL = frozenset({"camera", "go2", "teleop", "text", "grammar", "metrics", "ray"})


@dataclass(frozen=True)
class Finding:
    """One line of the report. An optional finding never keeps a job from running."""

    group: str
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    optional: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--for", dest="job", choices=JOBS, default="demo", help="job that the exit code is about (demo)"
    )
    add_json(parser, "the findings")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the job can run, else 1."""
    findings = examine()
    ready = {job: not blockers(findings, job) for job in JOBS}
    if args.json != "-":
        _print(findings, ready)
    document = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "ready": ready,
        "findings": [asdict(finding) for finding in findings],
    }
    return finish(args, document, ready[args.job])


def examine() -> list[Finding]:
    """Everything that the package can need, looked at without changing anything."""
    findings = [_python()]
    findings += [_module(name) for name in MODULES]
    findings += [_gpu(), _opengl(), _rclpy(), _launch(), _beside_the_sdk(), *_pairs()]
    return findings


def blockers(findings: list[Finding], job: str) -> list[Finding]:
    """What keeps a job from running."""
    needed = JOBS[job][1]
    return [f for f in findings if f.group in needed and not f.ok and not f.optional]


def _python() -> Finding:
    ok = sys.version_info >= (3, 10)
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    return Finding("core", "python", ok, detail, "" if ok else "install Python 3.10 or newer")


def _module(name: str) -> Finding:
    """Presence and version only; importing everything would take seconds."""
    module = MODULES[name]
    group = _GROUPS[module.extra]
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        remedy = (missing_module_sentence(name) or "").partition(": ")[2]
        return Finding(group, name, False, "missing", remedy, optional=module.extra in _OPTIONAL)
    return Finding(group, name, True, _version(name))


_DISTRIBUTIONS = {
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
    "PIL": ("pillow",),
    "mujoco": ("mujoco-core", "mujoco"),
}
_DISTRIBUTIONS["cv2"] = ("opencv-python-headless", "opencv-python")


def _version(module: str) -> str:
    from importlib import metadata

    for distribution in (*_DISTRIBUTIONS.get(module, (module,)), f"ros-{module.replace('_', '-')}"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "found"


def _probe(code: str) -> tuple[bool, str]:
    """Run code in a Python of its own, where a crash of a driver cannot take us along: success and last line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}"


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("models", "GPU", False, "unknown without torch", optional=True)
    ok, detail = _probe(
        "import torch\n"
        "if not torch.cuda.is_available(): raise SystemExit('none: the models run on the CPU')\n"
        "p = torch.cuda.get_device_properties(0)\n"
        "print(f'{p.name}, {p.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}')"
    )
    remedy = "not needed for the pair tiny; for larger pairs a CUDA device and a CUDA build of torch"
    return Finding("models", "GPU", ok, detail, "" if ok else remedy, optional=True)


def _opengl() -> Finding:
    if importlib.util.find_spec("mujoco") is None:
        return Finding("simulator", "camera", False, "unknown without mujoco", optional=True)
    ok, detail = _probe(
        "import spec_decode_ros.sim, mujoco\n"
        "from spec_decode_ros.sim.render import Camera\n"
        "xml = '<mujoco><worldbody><camera name=\"head\"/></worldbody></mujoco>'\n"
        "print(Camera(mujoco.MjModel.from_xml_string(xml)).backend)"
    )
    if ok and detail != "ray":
        return Finding("simulator", "camera", True, f"OpenGL by {detail.upper()}")
    slow = "no OpenGL: frames are cast ray by ray, which works but is slower"
    remedy = "apt install libegl1 libgl1-mesa-dri"
    return Finding("simulator", "camera", False, slow if ok else detail, remedy, optional=True)


def _pairs() -> list[Finding]:
    """The pairs that the package ships: their weights are looked for, not loaded."""
    try:
        from spec_decode_ros.models.pair_config import pair_names
    except ModuleNotFoundError as error:
        return [Finding("pair tiny", "pair tiny", False, f"unknown without {error.name}")]
    return [_pair(name) for name in pair_names()]


def _pair(name: str) -> Finding:
    from spec_decode_ros.errors import SpecDecodeError
    from spec_decode_ros.models.fingerprint import target_hash
    from spec_decode_ros.models.pair_config import load_pair_config, resolve_location

    shipped = name == "tiny"
    group = "pair tiny" if shipped else "other pairs"
    try:
        pair = load_pair_config(name)
        places = [resolve_location(side, pair.folder) for side in (pair.draft, pair.target)]
        fingerprint = target_hash(pair) if Path(places[1]).is_dir() else ""
    except SpecDecodeError as error:
        return Finding(group, name, False, str(error), optional=not shipped)
    detail = pair.description or "configured"
    if away := [place for place in places if not Path(place).is_dir()]:
        detail += f" (fetched from the hub at first use: {', '.join(away)})"
    else:
        detail += f" (target {fingerprint})"
    return Finding(group, name, True, detail, optional=not shipped)


def _rclpy() -> Finding:
    if importlib.util.find_spec("rclpy") is None:
        return Finding("ROS 2", "middleware", False, "unknown without rclpy")
    ok, detail = _probe(
        "import rclpy\nrclpy.init()\nprint(rclpy.get_rmw_implementation_identifier())\nrclpy.shutdown()"
    )
    if not ok:
        remedy = "source the setup file of an installed ROS 2 again"
        return Finding("ROS 2", "middleware", False, detail, remedy)
    distribution = os.environ.get("ROS_DISTRO", "Kilted wheels")
    return Finding("ROS 2", "middleware", True, f"{detail}, {distribution}")


def _beside_the_sdk() -> Finding:
    from spec_decode_ros.robots.go2_channel import UNSET, middleware_problem

    problem = middleware_problem()
    detail = problem or os.environ.get("RMW_IMPLEMENTATION") or "not set"
    return Finding(
        "Unitree Go2", "RMW_IMPLEMENTATION", not problem, detail, UNSET if problem else "", optional=True
    )


def _launch() -> Finding:
    if importlib.util.find_spec("launch_ros") is not None:
        return Finding("ROS 2", "launch", True, "found", optional=True)
    remedy = "source an installed ROS 2; needed for `ros2 launch` only, the nodes also start with python -m"
    return Finding("ROS 2", "launch", False, "missing", remedy, optional=True)


def _print(findings: list[Finding], ready: dict[str, bool]) -> None:
    from rich.table import Table
    from rich.text import Text

    from spec_decode_ros.console import PlainConsole

    console = PlainConsole()
    console.print(f"spec-decode {__version__}", style="bold")
    for group in dict.fromkeys(finding.group for finding in findings):
        table = Table(box=None, show_header=False, padding=(0, 1), title=group, title_justify="left")
        table.title_style = "bold"
        for column in ({"width": 4}, {"width": 17}, {}):
            table.add_column(**column)  # type: ignore[arg-type]
        for finding in (f for f in findings if f.group == group):
            mark, style = (
                ("ok", "green") if finding.ok else ("--", "yellow") if finding.optional else ("no", "red")
            )
            detail = Text(finding.detail)
            if finding.remedy:
                detail.append(f"\n{finding.remedy}", style="cyan")
            table.add_row(Text(mark, style=style), finding.name, detail)
        console.print(table)
    console.print()
    for job, (meaning, _) in JOBS.items():
        missing = ", ".join(finding.name for finding in blockers(findings, job))
        verdict = Text("ready   ", style="green") if ready[job] else Text("blocked ", style="red")
        console.print(verdict + Text(f"{job}: {meaning}" + (f" (missing: {missing})" if missing else "")))
