"""Bags of every make: what is in them is found, and what is wrong with them is said in one sentence."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")

from bags import WALK, S, compressed, jpeg, raw, string, twist, write_bag
from PIL import Image

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay.bag import BagError, FrameMark, read_frames, read_recording

FRAMES = "/camera/image/compressed"


def small(folder: Path, storage: str = "mcap") -> Path:
    messages = [
        ("/command", S, string("go to the red chair")),
        (FRAMES, 2 * S, compressed(2 * S - 7)),
        ("/action/unverified", 3 * S - 1, twist(S - 7, 0.2, 0.0)),
        ("/action/draft", 3 * S, twist(2 * S - 7, 0.3, 0.0)),
        ("/action/verified", 3 * S + 1, twist(2 * S - 7, 0.4, -0.2)),
        ("/action/text", 3 * S + 2, string("vx 0.4 wz -0.2 | red chair right 1.5")),
        (FRAMES, 4 * S, compressed(4 * S - 7, jpeg("blue"))),
    ]
    return write_bag(folder, messages, storage)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_is_read_from_its_folder_its_file_and_without_metadata(tmp_path: Path, storage: str):
    folder = small(tmp_path / "bag", storage)
    file = next(path for path in folder.iterdir() if path.name != "metadata.yaml")
    for path in (folder, file, folder / "metadata.yaml", "without metadata"):
        if path == "without metadata":
            (folder / "metadata.yaml").unlink()
            path = folder
        one = read_recording(path)
        assert one.frames == (FrameMark(2 * S - 7, 2 * S), FrameMark(4 * S - 7, 4 * S))
        assert [(said.time, said.text) for said in one.commands] == [(S, "go to the red chair")]
        assert [said.text for said in one.texts] == ["vx 0.4 wz -0.2 | red chair right 1.5"]
        assert [(said.stamp, said.vx, said.wz) for said in one.verified] == [(2 * S - 7, 0.4, -0.2)]
        assert [said.vx for said in one.drafts] == [0.2, 0.3]
        assert one.start == S
        assert [data for _, data in read_frames(one)] == [jpeg(), jpeg("blue")]
        assert [data for _, data in read_frames(one, [4 * S - 7])] == [jpeg("blue")]


def test_a_bag_in_several_files_is_read_in_their_order(tmp_path: Path):
    folder = tmp_path / "long"
    folder.mkdir()
    for index in (0, 1):
        part = write_bag(tmp_path / str(index), [(FRAMES, (index + 1) * S, compressed((index + 1) * S))])
        shutil.copy(part / f"{index}.mcap", folder / f"long_{index}.mcap")
    assert [mark.time for mark in read_recording(folder).frames] == [S, 2 * S]


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", (0, 1, 2)),
        ("bgr8", (2, 1, 0)),
        ("rgba8", (0, 1, 2, 3)),
        ("bgra8", (2, 1, 0, 3)),
        ("mono8", ()),
    ],
)
def test_raw_images_become_pictures_with_the_right_colours(tmp_path: Path, encoding: str, channels):
    color = np.array([200, 40, 90, 255], np.uint8)
    pixels = np.full((16, 24, 1), 120, np.uint8)
    if channels:
        pixels = np.broadcast_to(color[list(channels)], (16, 24, len(channels)))
    bag = write_bag(tmp_path / "bag", [("/front/image_raw", S, raw(S, pixels, encoding, padding=5))])
    (_, data), *_ = read_frames(read_recording(bag))
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert seen.shape == (16, 24, 3)
    expected = color[:3] if channels else np.array([120, 120, 120])
    assert np.abs(seen[8, 12].astype(int) - expected).max() <= 6


def test_frames_and_commands_of_other_names_are_found_or_named(tmp_path: Path):
    bag = write_bag(
        tmp_path / "bag",
        [
            ("/go2/head", S, compressed(0)),
            ("/voice", S, string("sit down")),
            ("/go2/overlay/compressed", S, compressed(S)),
        ],
    )
    found = read_recording(bag)
    # A frame without a stamp has that of its recording.
    assert (found.image_topic, found.frames, found.commands) == ("/go2/head", (FrameMark(S, S),), ())
    named = read_recording(bag, image_topic="go2/head", command_topic="/voice")
    assert [said.text for said in named.commands] == ["sit down"]


def test_velocities_that_are_no_numbers_are_no_actions(tmp_path: Path):
    messages = [(FRAMES, S, compressed(S))]
    messages += [
        ("/action/verified", S + i, twist(S, value, 0.0)) for i, value in enumerate((np.nan, np.inf, 0.4))
    ]
    assert [said.vx for said in read_recording(write_bag(tmp_path / "bag", messages)).verified] == [0.4]


def test_the_topics_of_one_robot_belong_together(tmp_path: Path):
    bag = write_bag(
        tmp_path / "bag",
        [
            (f"/go2_7{FRAMES}", S, compressed(S)),
            (f"/go2_8{FRAMES}", S, compressed(S)),
            ("/go2_7/command", S, string("sit down")),
            ("/go2_8/command", S, string("stand up")),
        ],
    )
    with pytest.raises(BagError, match=r"/go2_7\S+, /go2_8\S+: choose one of them with --image-topic"):
        read_recording(bag)
    (command,) = read_recording(bag, image_topic=f"/go2_8{FRAMES}").commands
    assert command.text == "stand up"


def test_with_a_planner_the_drafter_was_told_the_steps(tmp_path: Path):
    messages = [
        (FRAMES, S, compressed(S)),
        ("/command", S, string("would you mind to rest a little")),
        ("/step", S + 1, string("stop")),
        ("/step", 2 * S, string("sit down")),
    ]
    bag = write_bag(tmp_path / "bag", messages)
    assert [said.text for said in read_recording(bag).commands] == ["stop", "sit down"]
    (said,) = read_recording(bag, command_topic="command").commands
    assert said.text.startswith("would you")


def test_a_topic_of_another_type_is_left_out_and_said_so(tmp_path: Path):
    bag = write_bag(tmp_path / "bag", [(FRAMES, S, compressed(S)), ("/command", S, twist(S, 0.0, 0.0))])
    found = read_recording(bag)
    assert found.commands == ()
    assert "/command is geometry_msgs/msg/TwistStamped" in found.notes[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_topic": "/command"}, "/command in .* is std_msgs/msg/String; --image-topic takes"),
        ({"image_topic": "/nowhere"}, "has no topic /nowhere; --image-topic takes .* there is /camera"),
        ({"command_topic": FRAMES}, "--command-topic takes a topic of std_msgs/msg/String"),
    ],
)
def test_wrong_topics_are_one_sentence(tmp_path: Path, options, words: str):
    with pytest.raises(BagError, match=words) as caught:
        read_recording(small(tmp_path / "bag"), **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_bag_is_one_sentence(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "cut.mcap").write_bytes(b"")
    (tmp_path / "text.db3").write_text("no database")
    for name, words in (
        ("nowhere", "there is no bag"),
        ("empty", "neither metadata.yaml nor"),
        ("old.bag", "rosbags-convert"),
        ("cut.mcap", "cut short or damaged"),
        ("text.db3", "cut short or damaged"),
    ):
        with pytest.raises(BagError, match=words) as caught:
            read_recording(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_bag_without_frames_and_frames_that_are_no_pictures(tmp_path: Path):
    with pytest.raises(BagError, match="has no frames"):
        read_recording(write_bag(tmp_path / "words", [("/command", S, string("sit down"))]))
    depth = read_recording(
        write_bag(tmp_path / "depth", [("/depth", S, raw(S, np.zeros((4, 4, 2), np.uint8), "16UC1"))])
    )
    with pytest.raises(SpecDecodeError, match="encoded as '16UC1'; supported are rgb8"):
        list(read_frames(depth))
    broken = read_recording(write_bag(tmp_path / "broken", [(FRAMES, S, compressed(S, b"\xff\xd8\xff no"))]))
    with pytest.raises(SpecDecodeError, match="no readable picture"):
        list(read_frames(broken))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_cut_and_flipped_bags_are_read_or_refused_and_nothing_else(tmp_path: Path, storage: str):
    folder = small(tmp_path / "bag", storage)
    file = next(path for path in folder.iterdir() if path.name != "metadata.yaml")
    whole, rng = file.read_bytes(), random.Random(5)
    refused = 0
    for index in range(120):
        data = bytearray(whole)
        if index % 2:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.choice((1, 3, 40))):
                data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        try:
            list(read_frames(read_recording(file)))
        except SpecDecodeError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 60


def test_the_shipped_bag_is_small_and_whole():
    assert sum(file.stat().st_size for file in WALK.iterdir()) < 2e6
    found = read_recording(WALK)
    assert len({said.text for said in found.commands}) == 2
    assert dict(found.origin) == {"method": "auto", "pair": "tiny"}
    assert len(found.texts) > 30
