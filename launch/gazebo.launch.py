"""Everything on one machine, with Gazebo (Fortress on Humble, else Harmonic, Ionic or Jetty) as the room.

    ros2 launch spec_decode_ros gazebo.launch.py                  # a room that comes with the package
    spec-decode world --seed 7 --out room_7.sdf                   # another one
    ros2 launch spec_decode_ros gazebo.launch.py world:=room_7.sdf headless:=true
    ros2 run spec_decode_ros teleop_node                          # in a second terminal: go to the red chair

The arguments of robot.launch.py and cloud.launch.py are passed on; `--show-args` lists all of them.
"""

import atexit
import os
import shlex
import shutil
import tempfile
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter

from spec_decode_ros.sim.sdf import copy_for_fortress

HERE = Path(__file__).resolve().parent
WORLDS = HERE.parent / "worlds"
BRIDGE = HERE.parent / "config" / "gazebo_bridge.yaml"
TRUE = ("true", "1", "yes")
NEEDED = ("ros_gz_sim", "ros_gz_bridge", "ros_gz_image", "compressed_image_transport")


def launch_gazebo(context):
    """Gazebo with the world, and the bridges between it and ROS."""
    share = Path(get_package_share_directory("ros_gz_sim"))
    world = find_world(LaunchConfiguration("world").perform(context))
    if LaunchConfiguration("fortress").perform(context).lower() in TRUE:
        folder = tempfile.mkdtemp(prefix="gazebo_world_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        world = copy_for_fortress(world, Path(folder))
    flags = ["-r"]
    if LaunchConfiguration("headless").perform(context).lower() in TRUE:
        flags += ["-s", "--headless-rendering"]
    namespace = LaunchConfiguration("namespace")
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(share / "launch" / "gz_sim.launch.py")),
            launch_arguments={
                "gz_args": " ".join([*flags, shlex.quote(str(world))]),
                "on_exit_shutdown": "true",
            }.items(),
        ),
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            name="gazebo_bridge",
            namespace=namespace,
            parameters=[{"config_file": str(BRIDGE)}],
            output="screen",
        ),
        # Through image_transport, whose compressed publisher is camera/image/compressed.
        Node(
            package="ros_gz_image",
            executable="image_bridge",
            name="gazebo_camera",
            namespace=namespace,
            arguments=["camera/image"],
            output="screen",
        ),
        # The robot in Gazebo keeps its last velocity, also when motion_node is gone.
        Node(
            package="spec_decode_ros",
            executable="velocity_watchdog_node",
            name="velocity_watchdog_node",
            namespace=namespace,
            output="screen",
        ),
    ]


def check(context):
    """Nothing is started before it is known that everything is there."""
    find_world(LaunchConfiguration("world").perform(context))
    missing = []
    for package in NEEDED:
        try:
            get_package_share_directory(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        debs = " ".join(f"ros-{distribution}-{package.replace('_', '-')}" for package in missing)
        raise RuntimeError(f"Gazebo's side of ROS is missing: apt install {debs}")


def find_world(name):
    """The file of a world: one that comes with the package, by name, or a path."""
    shipped = WORLDS / f"{name}.sdf"
    path = shipped if shipped.is_file() else Path(name).expanduser().resolve()
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in WORLDS.glob("*.sdf")))
        raise RuntimeError(
            f"there is no world {name}: give {names} or a file, which `spec-decode world` writes"
        )
    return path


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "world", default_value="room_1", description="a shipped world by name, or an .sdf file"
            ),
            DeclareLaunchArgument(
                "headless",
                default_value="false",
                description="Gazebo without a window; frames are drawn by EGL",
            ),
            DeclareLaunchArgument(
                "fortress",
                default_value=str(os.environ.get("ROS_DISTRO") == "humble").lower(),
                description="Gazebo is Fortress, as on Humble, and gets a copy of the world that it can read",
            ),
            OpaqueFunction(function=check),
            # Frames are stamped with Gazebo's time, and their age is reckoned in it.
            SetParameter(name="use_sim_time", value=True),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "cloud.launch.py"))),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(HERE / "robot.launch.py")),
                launch_arguments={"stamped": "false"}.items(),
            ),
            OpaqueFunction(function=launch_gazebo),
        ]
    )
