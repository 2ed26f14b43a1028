"""A simulated Go2 on one machine, with the nodes of a real one and the verifier.

    ros2 launch spec_decode_ros go2_sim.launch.py seed:=3
    ros2 run spec_decode_ros teleop_node        # in a second terminal: go to the red chair

The simulated robot answers Unitree's services over DDS on the loopback interface; motion_node and camera_node use
them as they would on a real one. The arguments of robot.launch.py and cloud.launch.py are passed on; `--show-args`
lists all of them.
"""

import sys
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).resolve().parent
INTERFACE = "lo"

# Of go2-sim: default, meaning, option.
ARGUMENTS = {
    "seed": ("0", "of the room", "--seed"),
    "go2_domain": ("101", "of the simulated Go2's DDS, away from the one of ROS", "--domain"),
    "battery": ("80", "per cent at the beginning", "--battery"),
}


def generate_launch_description():
    options = [
        part for name, (_, _, option) in ARGUMENTS.items() for part in (option, LaunchConfiguration(name))
    ]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description, _) in ARGUMENTS.items()
            ),
            ExecuteProcess(
                cmd=[sys.executable, "-m", "spec_decode_ros", "go2-sim", "--interface", INTERFACE, *options],
                name="go2_sim",
                output="screen",
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "cloud.launch.py"))),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(HERE / "robot.launch.py")),
                launch_arguments={
                    "robot": "go2",
                    "network_interface": INTERFACE,
                    "dds_domain": LaunchConfiguration("go2_domain"),
                }.items(),
            ),
        ]
    )
