"""What runs in the cloud: the verifier, for one robot or a fleet, and a second one for planners if their pair is named.

    ros2 launch spec_decode_ros cloud.launch.py bind:=tcp://10.0.0.5:5555 keys:=keys/ device:=cuda
    ros2 launch spec_decode_ros cloud.launch.py planner:=planner planner_bind:=tcp://10.0.0.5:5556

`--show-args` lists the arguments. Without ROS 2 in the cloud, `spec-decode serve` is the same server.
"""

from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

CONFIG = Path(__file__).resolve().parent.parent / "config" / "cloud.yaml"

# Each sets the parameter of the same name where it is given; default, meaning and type.
SETTINGS = {
    "pair": ("model pair: a shipped name or the path of a pair file", str),
    "bind": ("endpoint to listen on, tcp://ADDRESS:PORT", str),
    "keys": ("folder of keys: let in only robots that have some, and encrypt; made on first use", str),
    "insecure": ("true: serve other machines without keys, whoever reaches them", yaml.safe_load),
    "device": ("device of the target model: cpu, cuda or auto", str),
    "threads": ("CPU threads of the target model; 0: torch's choice", int),
    "metrics": ("where Prometheus metrics and health pages are, HOST:PORT or PORT", str),
}


def launch_nodes(context):
    """The verifiers, with what was given on the command line over what is in the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in SETTINGS}
    settings = {name: SETTINGS[name][1](value) for name, value in given.items() if value}

    def verifier(name, settings):
        return Node(
            package="spec_decode_ros",
            executable="cloud_bridge_node",
            name=name,
            namespace=LaunchConfiguration("cloud_namespace"),
            parameters=[LaunchConfiguration("cloud_params_file"), settings],
            output="screen",
        )

    verifiers = [verifier("cloud_bridge_node", settings)]
    planner = LaunchConfiguration("planner").perform(context)
    if planner != "none":
        # Both let in the same robots; one port has room for one page of metrics only.
        own = {name: value for name, value in settings.items() if name != "metrics"}
        bind = LaunchConfiguration("planner_bind").perform(context)
        verifiers.append(verifier("planner_bridge_node", {**own, "pair": planner, "bind": bind}))
    return verifiers


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("cloud_namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument(
                "cloud_params_file", default_value=str(CONFIG), description="its parameters"
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{meaning}; empty: as in the file")
                for name, (meaning, _) in SETTINGS.items()
            ),
            DeclareLaunchArgument(
                "planner",
                default_value="none",
                description="pair of the robots' planners, for which a second verifier is started; none: there is none",
            ),
            DeclareLaunchArgument(
                "planner_bind",
                default_value="tcp://127.0.0.1:5556",
                description="endpoint of the planners' verifier, as bind",
            ),
            OpaqueFunction(function=launch_nodes),
        ]
    )
