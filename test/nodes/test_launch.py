"""The launch files with the real launch: every node comes up, the arguments arrive, and Ctrl-C ends them cleanly."""

from __future__ import annotations

import importlib.util
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from launched import add_executable
from ros_session import REPOSITORY, STARTS_S, environment, wait_for

LAUNCH_FILES = sorted(path.name for path in (REPOSITORY / "launch").glob("*.launch.py"))
CONFIGS = ("robot.yaml", "cloud.yaml", "sim.yaml")

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="launch_ros is not installed: it comes with ROS 2 only",
)


@pytest.mark.parametrize("config", CONFIGS)
def test_parameter_files_name_parameters_that_exist(config):
    pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
    document = yaml.safe_load((REPOSITORY / "config" / config).read_text())
    for key, value in document.items():
        node = key.rpartition("/")[2]
        if node == "planner_bridge_node":
            node = "cloud_bridge_node"  # by another name
        if node == "sim_node":
            pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
        module = importlib.import_module(f"spec_decode_ros.nodes.{node}")
        parameters = {parameter.name: parameter for parameter in module.PARAMETERS}
        for name, given in value["ros__parameters"].items():
            assert name in parameters, f"{config}: {node} has no parameter {name}"
            assert type(given) is type(parameters[name].default), f"{config}: {node}.{name}"
            if isinstance(given, float) and name != "action_period":
                assert given == parameters[name].default, (
                    f"{config}: {node}.{name} differs from the node's default"
                )


@needs_launch
@pytest.mark.parametrize("file", LAUNCH_FILES)
def test_every_argument_is_described(file):
    describe = runpy.run_path(str(REPOSITORY / "launch" / file))["generate_launch_description"]
    arguments = describe().get_launch_arguments_with_include_launch_description_actions()
    assert arguments
    for argument, _ in arguments:
        assert argument.description and argument.description != "no description given", argument.name
    names = [argument.name for argument, _ in arguments]
    assert len(names) == len(set(names)), f"declared twice: {sorted(names)}"


@needs_launch
@pytest.mark.skipif(
    importlib.util.find_spec("ros2launch") is None, reason="ros2launch is not installed: it comes with ROS 2"
)
@pytest.mark.parametrize("file", LAUNCH_FILES)
def test_the_command_line_shows_the_arguments(file):
    command = "import sys; from ros2cli.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "launch", str(REPOSITORY / "launch" / file), "--show-args"],
        capture_output=True,
        text=True,
        timeout=STARTS_S,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "':\n" in done.stdout
    assert "no description given" not in done.stdout


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_simulation_launch_walks_the_robot(ros, launch, tmp_path):
    pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import TwistStamped
    from scripted_pair import make_scripted_pair
    from std_msgs.msg import String

    pair = make_scripted_pair(tmp_path / "pair", "vx 0.2 wz 0.4 | walking 1", "vx 0.2 wz 0.4 | walking 1")
    endpoint = f"ipc://{tmp_path}/verifier"
    launched = launch("sim.launch.py", pair=pair, bind=endpoint, endpoint=endpoint, seed=2, namespace="go2_7")
    launched.wait_until_it_says("room 2")
    launched.wait_until_it_says("ready: verifying pair")
    launched.wait_until_it_says("ready: pair random")
    cmd_vel = ros.listen(TwistStamped, "go2_7/cmd_vel", 10)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    ros.publisher(String, "go2_7/command", 10).publish(String(data="walk to the red chair"))
    wait_for(lambda: any(m.twist.linear.x > 0.0 for _, m in list(cmd_vel)), "motion")
    parts = {"motion", "drafter", "verifier", "simulation"}
    wait_for(
        lambda: parts <= {s.name.rpartition(": ")[2] for _, m in list(diagnostics) for s in m.status},
        "the diagnostics of every node",
    )
    said = launched.interrupt()
    for node in ("motion_node", "drafter_node", "cloud_bridge_node", "sim_node"):
        assert f"[{node}-" in said
    assert said.count("process has finished cleanly") == 4, said
    time.sleep(0.1)
    assert cmd_vel[-1][1].twist.linear.x == 0.0


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_robot_launch_passes_its_arguments_on(ros, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from geometry_msgs.msg import Twist
    from PIL import Image
    from scripted_pair import make_scripted_pair
    from std_msgs.msg import String

    Image.new("RGB", (168, 84), "green").save(tmp_path / "frame.jpg")
    pair = make_scripted_pair(tmp_path / "pair", "vx 0.4 wz 0.2 | walking 1", "vx 0.4 wz 0.2 | walking 1")
    launched = launch(
        "robot.launch.py",
        pair=pair,
        method="edge",
        source=tmp_path / "frame.jpg",
        stamped="false",
        unverified_factor="0.25",
        cmd_vel="legs",
    )
    launched.wait_until_it_says("method edge")
    velocities = ros.listen(Twist, "legs", 10)
    ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
    wait_for(lambda: any(m.linear.x == 0.1 for _, m in list(velocities)), "a quarter of the draft's speed")
    said = launched.interrupt()
    assert said.count("process has finished cleanly") == 3, said


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_planner_the_drafter_hears_its_steps(ros, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from geometry_msgs.msg import TwistStamped
    from PIL import Image
    from scripted_pair import make_scripted_pair
    from serving import serving
    from std_msgs.msg import String

    plan = "walk forward 2 metres"
    Image.new("RGB", (168, 84), "green").save(tmp_path / "frame.jpg")
    pair = make_scripted_pair(tmp_path / "pair", "vx 0.4 wz 0.2 | walking 1", "vx 0.4 wz 0.2 | walking 1")
    planner = make_scripted_pair(tmp_path / "planner", plan, plan)
    with serving(planner) as endpoint:
        launched = launch(
            "robot.launch.py",
            pair=pair,
            method="edge",
            source=tmp_path / "frame.jpg",
            planner=planner,
            planner_endpoint=endpoint,
        )
        launched.wait_until_it_says("method edge")
        launched.wait_until_it_says("method auto")
        velocities = ros.listen(TwistStamped, "cmd_vel", 10)
        steps = ros.listen(String, "step", 10)
        command = ros.publisher(String, "command", 10)
        command.publish(String(data="would you mind to go on for two metres"))
        wait_for(lambda: any(m.twist.linear.x > 0.0 for _, m in list(velocities)), "motion")
        assert [message.data for _, message in steps] == ["stop", plan]
        said = launched.interrupt()
    assert f"command: {plan}" in said
    assert "command: would you" not in said
    assert said.count("process has finished cleanly") == 4, said


@pytest.fixture
def gazebo(prefix: Path) -> Path:
    """What `apt install ros-<distribution>-ros-gz` would bring, with a stand-in for each program; the share folder."""
    stand_in = Path(__file__).with_name("gazebo_stand_in.py")
    for package, program in (
        ("ros_gz_sim", "gazebo"),
        ("ros_gz_bridge", "parameter_bridge"),
        ("ros_gz_image", "image_bridge"),
        ("compressed_image_transport", "nothing"),
    ):
        # One of the three is the whole of Gazebo; the bridges only say what they were started with.
        runs = str(stand_in) if program == "image_bridge" else f'-c "{WAITS}" {program}'
        add_executable(prefix, package, program, runs)
        (prefix / "share" / package).mkdir()
    launch_folder = prefix / "share" / "ros_gz_sim" / "launch"
    launch_folder.mkdir()
    (launch_folder / "gz_sim.launch.py").write_text(GZ_SIM)
    return prefix / "share"


WAITS = (
    "import signal, sys; "
    "signal.signal(signal.SIGINT, lambda *_: sys.exit()); "
    "print('started with', sys.argv[1:], flush=True); "
    "signal.pause()"
)

# As that of ros_gz_sim, with its two arguments that we use and its way to start Gazebo.
GZ_SIM = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('gz_args', default_value=''),
        DeclareLaunchArgument('on_exit_shutdown', default_value='false'),
        ExecuteProcess(
            cmd=['exec ', ExecutableInPackage('gazebo', 'ros_gz_sim'), LaunchConfiguration('gz_args')],
            name='gazebo', output='screen', shell=True, on_exit=Shutdown(),
        ),
    ])
"""


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gazebo_launch_drives_by_gazebos_clock(ros, gazebo, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from scripted_pair import make_scripted_pair
    from std_msgs.msg import String

    pair = make_scripted_pair(tmp_path / "pair", "vx 0.2 wz 0.4 | walking 1", "vx 0.2 wz 0.4 | walking 1")
    endpoint = f"ipc://{tmp_path}/verifier"
    launched = launch(
        "gazebo.launch.py", pair=pair, bind=endpoint, endpoint=endpoint, headless="true", namespace="go2_7"
    )
    launched.wait_until_it_says("ready: verifying pair")
    launched.wait_until_it_says("ready: pair random")
    ros.publisher(String, "go2_7/command", 10).publish(String(data="walk to the red chair"))
    launched.wait_until_it_says("told to walk")
    said = launched.interrupt()
    world = REPOSITORY / "worlds" / "room_1.sdf"
    assert f"started with ['gazebo', '-r', '-s', '--headless-rendering', '{world}']" in said
    assert "started with gazebo_stand_in.py ['camera/image', '--ros-args'" in said
    assert "velocity_watchdog_node" in said
    assert said.count("process has finished cleanly") == 7, said


@needs_launch
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({}, "Gazebo's side of ROS is missing: apt install ros-"), ({"world": "nowhere"}, "no world nowhere")],
)
def test_the_gazebo_launch_says_what_is_missing_before_it_starts_anything(launch, arguments, sentence):
    launched = launch("gazebo.launch.py", **arguments)
    assert launched.popen.wait(STARTS_S) == 1
    assert sentence in launched.output
    assert "process started" not in launched.output


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_cloud_launch_serves_and_ends(domain, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    launched = launch("cloud.launch.py", bind=f"ipc://{tmp_path}/verifier", threads=1)
    launched.wait_until_it_says(f"ready: verifying pair tiny at ipc://{tmp_path}/verifier")
    assert launched.interrupt().count("process has finished cleanly") == 1


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_cloud_launch_serves_planners_too_with_the_same_keys(domain, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from scripted_pair import make_scripted_pair

    planner = make_scripted_pair(tmp_path / "planner", "sit down", "sit down")
    endpoints = {"bind": f"ipc://{tmp_path}/verifier", "planner_bind": f"ipc://{tmp_path}/planner_verifier"}
    launched = launch(
        "cloud.launch.py", planner=planner, keys=tmp_path / "keys", threads=1, metrics=0, **endpoints
    )
    launched.wait_until_it_says(f"ready: verifying pair tiny at {endpoints['bind']}")
    launched.wait_until_it_says(f"at {endpoints['planner_bind']}")
    assert launched.interrupt().count("process has finished cleanly") == 2


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_go2_launch_walks_a_go2_that_is_not_there(ros, launch, tmp_path):
    pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    pytest.importorskip("unitree_sdk2py", reason="Unitree's SDK is not installed: pip install '.[go2]'")
    from nav_msgs.msg import Odometry
    from scripted_pair import make_scripted_pair
    from std_msgs.msg import String

    pair = make_scripted_pair(tmp_path / "pair", "vx 0.4 wz 0.2 | walking 1", "vx 0.4 wz 0.2 | walking 1")
    endpoint = f"ipc://{tmp_path}/verifier"
    launched = launch(
        "go2_sim.launch.py",
        pair=pair,
        bind=endpoint,
        endpoint=endpoint,
        seed=2,
        go2_domain=random.randrange(110, 200),
    )
    launched.wait_until_it_says("ready: verifying pair")
    launched.wait_until_it_says("ready: pair random")
    odometry = ros.listen(Odometry, "odom", 10)
    ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
    wait_for(lambda: any(m.twist.twist.linear.x > 0.1 for _, m in list(odometry)), "the robot to walk")
    said = launched.interrupt()
    assert said.count("process has finished cleanly") == 5, said


@needs_launch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_replay_launch_compares_and_ends_by_itself(domain, launch, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    pytest.importorskip("rosbags", reason="rosbags is not installed: pip install rosbags")
    result = tmp_path / "result.json"
    launched = launch("replay.launch.py", bag=REPOSITORY / "test" / "data" / "walk", json=result)
    launched.popen.wait(STARTS_S)
    said = launched.output
    assert result.is_file(), said
    assert "Traceback" not in said
    assert "process has died" not in said
    assert said.count("process has finished cleanly") == 3, said
