"""Everything on one machine: a simulated room with a Go2, the robot's nodes, and the verifier.

    ros2 launch spec_decode_ros sim.launch.py seed:=3
    ros2 run spec_decode_ros teleop_node        # in a second terminal: go to the red chair

The arguments of robot.launch.py and cloud.launch.py are passed on; `--show-args` lists all of them.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "config" / "sim.yaml"


def launch_simulator(context):
    """The simulator, with what was given on the command line over what is in the parameter file."""
    seed = LaunchConfiguration("seed").perform(context)
    target = LaunchConfiguration("target").perform(context)
    stamped = LaunchConfiguration("stamped").perform(context).lower()
    given = {}
    if seed:
        given["seed"] = int(seed)
    if target:
        given["target"] = target
    if stamped:
        given["stamped"] = stamped in ("true", "1", "yes")
    return [
        Node(
            package="spec_decode_ros",
            executable="sim_node",
            name="sim_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("sim_params_file"), given],
            output="screen",
        )
    ]


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("seed", default_value="", description="of the room; empty: as in the file"),
            DeclareLaunchArgument(
                "target", default_value="", description="object whose distance is reported"
            ),
            DeclareLaunchArgument(
                "sim_params_file", default_value=str(CONFIG), description="of the simulator"
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "cloud.launch.py"))),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "robot.launch.py"))),
            OpaqueFunction(function=launch_simulator),
        ]
    )
