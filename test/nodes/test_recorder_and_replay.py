"""A bag through the live nodes, recorded on the way: what comes out is what was recorded, and can be replayed again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")

sys.path.append(str(Path(__file__).parents[1] / "replay"))

from bags import WALK, S, cut
from diagnostic_msgs.msg import DiagnosticStatus
from ros_session import wait_for
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from spec_decode_ros import cli
from spec_decode_ros.nodes.common import EVENTS, LATCHED, LATEST_FRAME, RECEIVED
from spec_decode_ros.nodes.recorder import offered_profiles
from spec_decode_ros.replay.bag import read_recording
from spec_decode_ros.replay.moments import moments_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENT = {"threads": 1, "deadline": 10.0, "max_frame_age": 10.0}
"""A busy machine is late, which is no failure here."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    from spec_decode_ros.models.pair import load_verifier
    from spec_decode_ros.server.config import ServiceConfig
    from spec_decode_ros.server.verifier_server import VerifierServer

    with VerifierServer(
        load_verifier("tiny", threads=1), "tiny", ServiceConfig(bind="tcp://127.0.0.1:*")
    ) as server:
        yield server.endpoint


def test_a_replayed_bag_is_recorded_and_replayed_again(ros, endpoint: str, tmp_path: Path):
    walk = read_recording(WALK)
    begin = walk.commands[0].time
    bag = cut(WALK, tmp_path / "walk", begin - S // 4, begin + 3 * S)
    result, again = tmp_path / "result.json", tmp_path / "again"
    recorder = ros.start("recorder_node", out=again)
    ros.start("drafter_node", endpoint=endpoint, **PATIENT)
    # The recorder has to be found as well, and that takes seconds on a busy machine.
    patience = {"discovery_s": 5.0, "settle_s": 1.0, "wait_s": 90.0}
    player = ros.start("replay_node", topics={"command": RECEIVED}, bag=bag, json=result, **patience)
    code = player.wait()
    found = json.loads(result.read_text())
    assert (found["differences"], found["passed"]) == (0, True)
    # On a machine that is too busy the drafter may decide on none of the recorded frames, which does not pass.
    assert code == (0 if found["compared"] else 1), player.output
    assert f"SAME: {found['compared']} of {found['compared']}" in player.output

    assert recorder.interrupt() == 0
    assert "Traceback" not in recorder.output + player.output
    recorded = read_recording(again)
    assert [said.text for said in recorded.commands] == [walk.commands[0].text]
    assert dict(recorded.origin)["pair"] == "tiny"
    actions = [moment for moment in moments_of(recorded) if not moment.uncertain]
    assert len(actions) >= found["replayed_actions"] - 2 > 0
    assert cli.main(["replay", str(again), "--endpoint", endpoint]) == 0


def test_a_recorder_ends_at_its_limit_and_overwrites_nothing(ros, tmp_path: Path):
    out = tmp_path / "bag"
    recorder = ros.start("recorder_node", out=out, max_size_mb=0.001)
    said, step = ros.publisher(String, RECEIVED, 10), ros.publisher(String, "step", 10)
    other = ros.node.create_publisher(String, "chatter", 10)

    def talk() -> bool:
        for publisher in (said, step):
            publisher.publish(String(data="go to the red chair " * 5))
        other.publish(String(data="not the project's"))
        return recorder.popen.poll() is not None

    wait_for(talk, "the limit")
    assert recorder.wait() == 0, recorder.output
    assert "the limit of 0.001 MB is reached" in recorder.output
    from rosbags.rosbag2 import Reader

    with Reader(out) as reader:
        assert sorted(one.topic for one in reader.connections) == ["/command/received", "/step"]
        assert 5 <= reader.message_count <= 9
    second = ros.start("recorder_node", ready=None, out=out)
    assert second.wait() == 1
    assert "is not overwritten" in second.output
    assert "Traceback" not in second.output


def test_a_bag_says_what_quality_of_service_was_offered(ros, tmp_path: Path):
    """As rosbag2 writes it, so that `ros2 bag play` offers the same."""
    from rosbags.interfaces import QosDurability, QosReliability
    from rosbags.rosbag2 import Reader

    out = tmp_path / "bag"
    kept = [
        ros.node.create_publisher(String, RECEIVED, EVENTS),
        ros.node.create_publisher(DiagnosticStatus, "plan", LATCHED),
        ros.node.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME),
    ]
    recorder = ros.start("recorder_node", out=out)
    wait_for(lambda: all(each.get_subscription_count() for each in kept), "the recorder's subscriptions")
    kept[0].publish(String(data="go to the red chair"))
    assert recorder.interrupt() == 0, recorder.output
    found = {}
    for place in (out, out / "bag.mcap"):  # metadata.yaml, and the file alone
        with Reader(place) as reader:
            found[place] = {one.topic: one.ext.offered_qos_profiles for one in reader.connections}
    assert found[out] == found[out / "bag.mcap"]
    offered = found[out]
    assert {topic: len(profiles) for topic, profiles in offered.items()} == {
        "/command/received": 1,
        "/plan": 1,
        "/camera/image/compressed": 1,
    }
    assert offered["/plan"][0].durability is QosDurability.TRANSIENT_LOCAL
    assert offered["/camera/image/compressed"][0].reliability is QosReliability.BEST_EFFORT
    profile = offered["/command/received"][0]
    assert profile.reliability is QosReliability.RELIABLE
    assert profile.durability is QosDurability.VOLATILE
    assert tuple(profile.deadline) == tuple(profile.lifespan) == (9223372036, 854775807)  # never


def test_each_publisher_offers_a_profile_of_its_own(ros):
    kept = [ros.node.create_publisher(String, "command", quality) for quality in (EVENTS, LATCHED)]
    wait_for(lambda: ros.node.count_publishers("/command") == len(kept), "both publishers")
    durable = [profile.durability.name for profile in offered_profiles(ros.node, "/command")]
    assert sorted(durable) == ["TRANSIENT_LOCAL", "VOLATILE"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "no bag is given"),
        ({"bag": "/nowhere"}, "there is no bag"),
        ({"bag": WALK, "wait_s": 1.0}, "no drafter"),
    ],
)
def test_a_replay_that_cannot_begin_says_why(ros, parameters, words: str):
    player = ros.start("replay_node", ready=None, **parameters)
    assert player.wait() == 1
    assert words in player.output
    assert "Traceback" not in player.output
