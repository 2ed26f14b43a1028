"""The motion node as a process: what goes in over ROS and which velocities come out."""

from __future__ import annotations

import itertools
import math
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.node import Node
from ros_session import Ros, wait_for
from sensor_msgs.msg import Joy
from std_msgs.msg import String


class Motion:
    """A running motion node with its inputs and its recorded output."""

    def __init__(self, ros: Ros, **parameters) -> None:
        self.ros = ros
        parameters.setdefault("wait_for_command", False)
        # That nothing but zeros comes out is seen best where zeros come out.
        parameters.setdefault("idle", "zeros")
        self.process = ros.start("motion_node", **parameters)
        kind = Twist if parameters.get("stamped") is False else TwistStamped
        self.log = ros.listen(kind, "cmd_vel", 50)
        self.verified = ros.publisher(TwistStamped, "action/verified")
        self.unverified = ros.publisher(TwistStamped, "action/unverified")
        self.draft = ros.publisher(TwistStamped, "action/draft")
        wait_for(lambda: self.log, "the first velocity")

    def act(
        self, vx: float, wz: float, verified: bool = True, age_s: float = 0.0, draft: bool = False
    ) -> None:
        message = TwistStamped()
        now = self.ros.node.get_clock().now().nanoseconds - round(age_s * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
        message.twist.linear.x, message.twist.angular.z = vx, wz
        (self.draft if draft else self.verified if verified else self.unverified).publish(message)

    def keep_acting(self, vx: float, wz: float, until, what: str, verified: bool = True, draft: bool = False):
        """Repeat an action, as a model does, until something is true."""

        def again():
            self.act(vx, wz, verified, draft=draft)
            time.sleep(0.05)
            return until()

        return wait_for(again, what)

    @property
    def now(self) -> tuple[float, float]:
        twist = self.log[-1][1]
        twist = getattr(twist, "twist", twist)
        return twist.linear.x, twist.angular.z

    def settled_at_zero(self) -> bool:
        """The last ten velocities were all zero."""
        return len(self.log) > 10 and all(self._zero(message) for _, message in self.log[-10:])

    @staticmethod
    def _zero(message) -> bool:
        twist = getattr(message, "twist", message)
        return twist.linear.x == 0.0 and twist.angular.z == 0.0

    def still_zero_after(self, seconds: float, act=None) -> bool:
        begin = len(self.log)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if act:
                act()
            time.sleep(0.05)
        new = self.log[begin:]
        return len(new) > 3 and all(self._zero(message) for _, message in new)


def test_an_action_moves_the_robot_and_its_expiry_stops_it(ros):
    motion = Motion(ros)
    assert motion.settled_at_zero() or motion.still_zero_after(0.3)
    motion.keep_acting(0.4, -0.5, lambda: motion.now == (0.4, -0.5), "the velocities of the action")
    motion.act(0.4, -0.5)
    last_action = time.monotonic()
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop after the last action")
    stopped = next(when for when, message in motion.log if when > last_action and motion._zero(message))
    # Generous, because the machine may be busy; what is meant is that it stops by itself and soon.
    assert stopped - last_action < 3.0
    assert motion.still_zero_after(0.3)
    frame = motion.log[-1][1].header
    assert frame.frame_id == "base_link"
    assert frame.stamp.sec > 0


def test_velocities_change_in_steps_and_within_limits(ros):
    motion = Motion(ros, max_vx=0.5, max_ax=1.0)
    motion.keep_acting(0.9, 0.0, lambda: motion.now[0] == 0.5, "the highest speed")
    speeds = [message.twist.linear.x for _, message in motion.log]
    assert max(speeds) == 0.5
    # One step makes up for at most 0.1 s.
    assert all(new - old <= 0.1 + 1e-9 for old, new in itertools.pairwise(speeds))


def test_unverified_actions_move_at_reduced_speed(ros):
    motion = Motion(ros, unverified_factor=0.25)
    done = lambda: motion.now == (0.1, 0.1)  # noqa: E731
    motion.keep_acting(0.4, 0.4, done, "a quarter of the draft's velocities", verified=False)
    assert max(message.twist.linear.x for _, message in motion.log) == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_numbers_stop_the_robot_and_the_diagnostics_say_why(ros, bad):
    motion = Motion(ros)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    motion.act(bad, 0.0)
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    reason = wait_for(
        lambda: [s.message for _, m in diagnostics for s in m.status if "finite" in s.message], "the reason"
    )
    assert "vx" in reason[0]


def test_stale_actions_do_not_move_the_robot(ros):
    motion = Motion(ros, max_age_s=0.5)
    assert motion.still_zero_after(0.5, lambda: motion.act(0.4, 0.0, age_s=2.0))
    motion.process.wait_until_it_says("old")


def test_the_emergency_stop_outlives_a_crash_until_released(ros, tmp_path):
    motion = Motion(ros, state_dir=str(tmp_path / "latch"))
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    assert ros.call("motion_node/emergency_stop").success
    wait_for(lambda: list((tmp_path / "latch").glob("*.emergency_stop")), "the latch on disk")
    motion.process.kill()
    time.sleep(0.2)  # what it has sent is there
    before = len(motion.log)
    again = Motion(ros, state_dir=str(tmp_path / "latch"))
    again.process.wait_until_it_says("still latched")
    wait_for(lambda: len(again.log) > before, "a velocity of the new node")
    assert again.still_zero_after(0.7, lambda: again.act(0.4, 0.0))
    assert ros.call("motion_node/release").success
    again.keep_acting(0.4, 0.0, lambda: again.now[0] > 0.0, "motion after the release")
    assert not list((tmp_path / "latch").iterdir())


def test_a_deliberate_shutdown_clears_the_emergency_stop_and_says_so(ros, tmp_path):
    motion = Motion(ros, state_dir=str(tmp_path / "latch"))
    assert ros.call("motion_node/emergency_stop").success
    assert motion.process.interrupt() == 0
    assert "shut down on purpose" in motion.process.output
    assert not list((tmp_path / "latch").iterdir())


@pytest.mark.parametrize(("name", "meant"), [("max_vxx", "max_vx"), ("speed", "")])
def test_an_unknown_parameter_is_refused(ros, name, meant):
    process = ros.start("motion_node", ready=None, **{name: 0.3})
    assert process.wait() == 1
    assert f"has no parameter {name}" in process.output
    assert (f"did you mean {meant}?" in process.output) == bool(meant)
    assert "Traceback" not in process.output


def goes_silent(motion: Motion) -> bool:
    """Nothing has come for a second, which is twenty velocities."""
    return time.monotonic() - motion.log[-1][0] > 1.0


def test_a_stop_is_said_long_enough_and_then_not_any_more(ros):
    motion = Motion(ros, idle="silent")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    wait_for(lambda: goes_silent(motion), "a stop, and then silence before the first action")
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion, which ends the silence")
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    wait_for(lambda: goes_silent(motion), "silence after the stop")
    zeros = list(itertools.takewhile(lambda entry: motion._zero(entry[1]), reversed(motion.log)))
    assert len(zeros) >= 10, "a lost message must not be the only one"
    wait_for(lambda: last_values(diagnostics).get("silent") == "True", "the silence in the diagnostics")
    count = len(motion.log)
    motion.act(0.0, 0.0)
    wait_for(lambda: len(motion.log) > count, "the zero of an action, which is always forwarded")


def last_values(diagnostics) -> dict[str, str]:
    """What the motion node said of itself last."""
    said = [s for _, m in list(diagnostics) for s in m.status if s.name.endswith("motion")]
    return {value.key: value.value for value in said[-1].values} if said else {}


def test_a_robot_whose_odometry_says_that_it_moves_is_told_to_stop_until_it_stands(ros):
    motion = Motion(ros, idle="silent")
    odometry = ros.publisher(Odometry, "odom")
    moving = Odometry()
    moving.twist.twist.linear.x = 0.5
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    odometry.publish(moving)
    motion.act(0.0, 0.0)
    wait_for(lambda: motion.settled_at_zero(), "the stop")
    count = len(motion.log)
    wait_for(lambda: len(motion.log) > count + 60, "three seconds of zeros")
    odometry.publish(Odometry())
    wait_for(lambda: goes_silent(motion), "silence")
    count = len(motion.log)
    # Now somebody else drives it.
    odometry.publish(moving)
    time.sleep(0.5)
    assert len(motion.log) == count
    ros.publisher(String, "command", 10).publish(String(data="stop"))
    wait_for(lambda: len(motion.log) > count + 60, "a stop that is said until the robot stands")


def test_an_emergency_stop_is_said_until_it_is_released(ros):
    motion = Motion(ros, idle="silent")
    count = len(motion.log)
    assert ros.call("motion_node/emergency_stop").success
    wait_for(lambda: len(motion.log) > count + 60, "three seconds of zeros")
    assert ros.call("motion_node/release").success
    wait_for(lambda: goes_silent(motion), "silence after the release")
    assert all(motion._zero(message) for _, message in motion.log)


def test_a_robot_that_stands_though_it_is_told_to_move_is_told_of(ros):
    motion = Motion(ros)
    odometry = ros.publisher(Odometry, "odom")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    speed = [0.0]

    def doing() -> str:
        message = Odometry()
        message.twist.twist.linear.x = speed[0]
        odometry.publish(message)
        said = [s.message for _, m in list(diagnostics) for s in m.status if s.name.endswith("motion")]
        return said[-1] if said else ""

    motion.keep_acting(
        0.4, 0.0, lambda: "the robot does not move yet" in doing(), "the word of a robot that stands"
    )
    speed[0] = 0.4
    motion.keep_acting(0.4, 0.0, lambda: "does not move" not in doing(), "the end of it")
    assert motion.now[0] > 0.0, "it is a warning and no stop"


def press(ros: Ros, *buttons: int) -> None:
    """What a joystick says now; 1 is a pressed button."""
    ros.publisher(Joy, "joy", 10).publish(Joy(buttons=list(buttons)))


def test_a_button_of_a_joystick_is_the_emergency_stop(ros):
    motion = Motion(ros, emergency_button=2)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)

    def told() -> str:
        return next(
            (s.message for _, m in reversed(diagnostics) for s in m.status if s.name.endswith("motion")), ""
        )

    wait_for(lambda: "no joystick has been heard" in told(), "a warning that the button does nothing yet")
    press(ros, 1, 1, 0, 1)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion, whatever else is pressed")
    press(ros, 0, 0, 1, 0)
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    wait_for(lambda: last_values(diagnostics).get("emergency_stop") == "True", "the latch")
    assert "button 2" in told()
    press(ros, 0, 0, 0, 0)
    assert motion.still_zero_after(0.7, lambda: motion.act(0.4, 0.0)), "letting go is no release"
    assert ros.call("motion_node/release").success
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after the release")
    press(ros, 0)
    wait_for(lambda: "has no button 2" in told(), "a joystick without that button")


def test_without_the_parameter_no_button_stops_anything(ros):
    Motion(ros)
    assert "motion_node" not in {info.node_name for info in ros.node.get_subscriptions_info_by_topic("joy")}


def test_the_emergency_stop_latches_until_released(ros):
    motion = Motion(ros)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    assert ros.call("motion_node/emergency_stop").success
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    assert motion.still_zero_after(0.7, lambda: motion.act(0.4, 0.0))
    assert ros.call("motion_node/release").success
    assert not ros.call("motion_node/release").success
    assert motion.still_zero_after(0.2)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after the release")


def test_the_operators_stop_holds_until_the_next_command(ros):
    motion = Motion(ros)
    command = ros.publisher(String, "command", 10)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    command.publish(String(data="Stop!"))
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    assert motion.still_zero_after(0.5, lambda: motion.act(0.4, 0.0))
    command.publish(String(data="stop at the red chair"))
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after the next command")


def test_with_a_planner_it_takes_a_sentence_and_then_a_step_to_move_again(ros):
    motion = Motion(ros, planner=True, wait_for_command=True)
    command, step = ros.publisher(String, "command", 10), ros.publisher(String, "step", 10)
    walk = lambda: motion.act(0.4, 0.0)  # noqa: E731
    step.publish(String(data="go to the red chair"))
    assert motion.still_zero_after(0.5, walk), "a step that no sentence came before"
    command.publish(String(data="off to the chair"))
    assert motion.still_zero_after(0.5, walk), "a sentence that is not planned yet"
    step.publish(String(data="stop"))
    step.publish(String(data="go to the red chair"))
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after the first step")
    command.publish(String(data="stop"))
    wait_for(lambda: motion.now == (0.0, 0.0), "the stop")
    # The step that was under way to the drafter when the operator said stop, and a planner that is gone afterwards.
    step.publish(String(data="turn left 90 degrees"))
    assert motion.still_zero_after(0.5, walk)
    command.publish(String(data="now to the ball"))
    assert motion.still_zero_after(0.5, walk)


def test_a_node_that_has_just_started_moves_nothing_before_a_command(ros):
    motion = Motion(ros, wait_for_command=True)
    assert motion.still_zero_after(0.5, lambda: motion.act(0.4, 0.0))
    motion.process.wait_until_it_says("waiting for the first command")
    ros.publisher(String, "command", 10).publish(String(data="stop"))
    assert motion.still_zero_after(0.3, lambda: motion.act(0.4, 0.0))
    ros.publisher(String, "command", 10).publish(String(data="walk"))
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after the command")


def test_drafts_begin_a_motion_once_and_then_wait_for_the_verdict(ros):
    motion = Motion(ros)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion on a draft", draft=True)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] == 0.0, "the stop for want of a verdict", draft=True)
    assert motion.still_zero_after(0.5, lambda: motion.act(0.4, 0.0, draft=True))
    motion.process.wait_until_it_says("still awaited")


def test_a_sitting_robot_does_not_walk(ros):
    motion = Motion(ros)
    passed = ros.listen(String, "posture", 10)
    posture = ros.publisher(String, "action/posture", 10)
    posture.publish(String(data="sit down"))
    wait_for(lambda: passed, "the posture")
    assert motion.still_zero_after(0.5, lambda: motion.act(0.4, 0.0))
    posture.publish(String(data="stand up"))
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion after standing up")
    assert [message.data for _, message in passed] == ["sit down", "stand up"]
    ros.call("motion_node/emergency_stop")
    posture.publish(String(data="sit down"))
    motion.process.wait_until_it_says("sit down is refused")
    assert len(passed) == 2


def test_a_driver_that_hears_another_type_is_named(ros):
    ros.start("motion_node")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    context = Context()
    rclpy.init(context=context)
    base = Node("base", context=context, start_parameter_services=False)
    base.create_subscription(Twist, "cmd_vel", lambda message: None, 1)

    def told() -> list[str]:
        return [s.message for _, m in list(diagnostics) for s in m.status if s.name.endswith("motion")]

    try:
        said = wait_for(lambda: [words for words in told() if "hears /cmd_vel" in words], "the word of it")
    finally:
        base.destroy_node()
        rclpy.shutdown(context=context)
    assert (
        "base hears /cmd_vel as geometry_msgs/msg/Twist, and geometry_msgs/msg/TwistStamped is sent"
        in said[-1]
    )
    assert "set stamped to false" in said[-1]


def test_plain_twists_on_request(ros):
    motion = Motion(ros, stamped=False)
    motion.keep_acting(0.3, 0.0, lambda: motion.now[0] == 0.3, "motion")


def test_an_interrupt_sends_a_last_stop_and_exits_with_zero(ros):
    motion = Motion(ros)
    motion.keep_acting(0.4, 0.0, lambda: motion.now[0] > 0.0, "motion")
    motion.act(0.4, 0.0)
    interrupted = time.monotonic()
    motion.process.popen.send_signal(2)
    time.sleep(0.1)
    if motion.process.popen.poll() is None:
        motion.process.popen.send_signal(2)
    assert motion.process.wait() == 0, motion.process.output
    assert "Traceback" not in motion.process.output
    assert wait_for(lambda: motion.now == (0.0, 0.0), "the last stop")
    assert motion.log[-1][0] - interrupted < 5.0


def test_limits_that_make_no_sense_are_refused_in_one_sentence(ros):
    process = ros.start("motion_node", ready=None, watchdog_s=0.9)
    assert process.wait() == 1
    assert "watchdog_s" in process.output
    assert "Traceback" not in process.output


def test_limits_change_while_running_only_to_sensible_ones(ros):
    from rcl_interfaces.msg import Parameter as ParameterMessage
    from rcl_interfaces.msg import ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    motion = Motion(ros)
    client = ros.node.create_client(SetParameters, "motion_node/set_parameters")
    wait_for(client.service_is_ready, "the parameter service")

    def set_double(name: str, value: float):
        parameter = ParameterMessage(name=name)
        parameter.value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        future = client.call_async(SetParameters.Request(parameters=[parameter]))
        wait_for(future.done, "the parameter service's answer")
        return future.result().results[0]

    assert not set_double("watchdog_s", 5.0).successful
    assert not set_double("rate", 50.0).successful
    assert not set_double("max_vx", math.nan).successful
    assert set_double("max_vx", 0.2).successful
    motion.keep_acting(0.9, 0.0, lambda: motion.now[0] == 0.2, "the new highest speed")
    assert max(message.twist.linear.x for _, message in motion.log) == 0.2
