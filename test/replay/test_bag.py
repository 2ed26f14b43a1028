"""Bags of every make: what is in them is found, and what is wrong with them is said in one sentence."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sqlite3
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")

from bags import WALK, S, compressed, jpeg, raw, string, twist, write_bag
from PIL import Image

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay import storage
from spec_decode_ros.replay.bag import FrameMark, SkippedFrame, read_frames, read_recording, skipped_notes
from spec_decode_ros.replay.storage import BagError

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


@pytest.mark.parametrize("bad", [b"", b"\xff\xd8\xff no", jpeg()[:-60], jpeg()[:4]])
def test_one_damaged_frame_is_skipped_and_named_with_its_time(tmp_path: Path, bad: bytes):
    pictures = [jpeg(), jpeg("blue"), bad, jpeg("green"), jpeg("gray")]
    frames = [(FRAMES, (n + 3) * S, compressed((n + 3) * S, data)) for n, data in enumerate(pictures)]
    found = read_recording(write_bag(tmp_path / "bag", frames))
    skipped: list[SkippedFrame] = []
    read = list(read_frames(found, on_skip=skipped.append))
    assert [data for _, data in read] == [*pictures[:2], *pictures[3:]]
    assert [(one.stamp, one.at_s) for one in skipped] == [(5 * S, 2.0)]
    (note,) = skipped_notes(skipped)
    assert note.startswith(f"the frame at 2.00 s is skipped: a frame of {FRAMES} is no readable picture")
    assert "0x" not in note


def test_many_damaged_frames_are_counted(tmp_path: Path):
    frames = [(FRAMES, n * S, compressed(n * S, b"no" if n else None)) for n in range(9)]
    skipped: list[SkippedFrame] = []
    list(read_frames(read_recording(write_bag(tmp_path / "bag", frames)), on_skip=skipped.append))
    notes = skipped_notes(skipped)
    assert len(notes) == 6 and notes[-1] == "3 more frames are skipped, the last at 8.00 s"


def test_damaged_messages_are_left_out_and_counted(tmp_path: Path):
    folder = small(tmp_path / "bag", "sqlite3")
    (file,) = folder.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as base, base:
        base.execute("update messages set data = x'00010000ffffff7f41' where timestamp = ?", (3 * S + 2,))
        base.execute("update messages set data = x'0001' where timestamp = ?", (4 * S,))
    found = read_recording(folder)
    assert found.texts == () and len(found.frames) == 1 and len(found.verified) == 1
    assert found.notes == (
        "1 damaged messages on /action/text are left out, the first at 2.00 s",
        f"1 damaged messages on {FRAMES} are left out, the first at 3.00 s",
    )
    assert len(list(read_frames(found))) == 1


# -- bags that were made to hurt, and names that are not quite usual ----------------------------------------


def bomb(path: Path, sizes: list[int], packing: str = "zstd", says: int | None = None) -> Path:
    """An mcap of one message for each size, each in a chunk of its own, of zeros."""
    from backports import zstd
    from lz4.frame import compress

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    def record(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + struct.pack("<Q", len(body)) + body

    made = b"\x89MCAP0\r\n" + record(1, text("ros2") + text("test"))
    made += record(
        3, struct.pack("<H", 1) + text("sensor_msgs/msg/CompressedImage") + text("ros2msg") + text("")
    )
    made += record(4, struct.pack("<HH", 1, 1) + text(FRAMES) + text("cdr") + struct.pack("<I", 0))
    for number, size in enumerate(sizes):
        plain = record(5, struct.pack("<HIQQ", 1, 0, number + S, number + S) + bytes(size))
        packed = {"zstd": zstd.compress, "lz4": compress, "": bytes}[packing](plain)
        head = struct.pack("<QQQI", number + S, number + S, len(plain) if says is None else says, 0)
        made += record(6, head + text(packing) + struct.pack("<Q", len(packed)) + packed)
    made += record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0)) + b"\x89MCAP0\r\n"
    path.write_bytes(made)
    return path


@pytest.mark.parametrize("says", [None, 1000], ids=["honest", "lying"])
@pytest.mark.parametrize(
    ("packing", "sizes"), [("zstd", [70_000_000]), ("zstd", [9_000_000] * 2), ("lz4", [70_000_000])]
)
def test_a_small_bag_that_unpacks_to_much_is_refused_before_it_fills_memory(
    tmp_path: Path, packing: str, says: int | None, sizes: list[int]
):
    file = bomb(tmp_path / "bomb.mcap", sizes, packing, says)
    assert file.stat().st_size < 2_000_000
    tracemalloc.start()
    try:
        with pytest.raises(BagError, match=r"unpacks to more than|damaged") as caught:
            read_recording(file)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_a_packed_message_or_file_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storage, "MOST_CHUNK_BYTES", 300)
    monkeypatch.setattr(storage, "MOST_FILE_BYTES", 5000)
    for mode, words in (
        ("MESSAGE", f"a message on {FRAMES} unpacks to more"),
        ("FILE", "zstd unpacks to more than"),
    ):
        with pytest.raises(BagError, match=words):
            read_recording(packed(small(tmp_path / mode, "sqlite3"), mode))


def test_a_bag_of_endless_messages_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("spec_decode_ros.replay.bag.MOST_MESSAGES", 5)
    with pytest.raises(BagError, match="more than 5 messages that a replay reads"):
        read_recording(small(tmp_path / "bag"))


def test_a_text_that_is_no_sentence_is_left_out(tmp_path: Path):
    messages = [
        (FRAMES, S, compressed(S)),
        ("/command", S, string("x" * 100_000)),
        ("/command", S, string("go")),
    ]
    found = read_recording(write_bag(tmp_path / "bag", messages))
    assert [said.text for said in found.commands] == ["go"]
    assert "1 damaged messages on /command" in found.notes[0]


def packed(folder: Path, mode: str) -> Path:
    """The bag in one of rosbag2's ways of packing: each file, or each message of sqlite3."""
    from backports import zstd

    (file,) = (path for path in folder.iterdir() if path.name != "metadata.yaml")
    if mode == "FILE":
        file.with_name(file.name + ".zstd").write_bytes(zstd.compress(file.read_bytes()))
        file.unlink()
    else:
        with contextlib.closing(sqlite3.connect(file)) as base, base:
            for row, data in base.execute("select rowid, data from messages").fetchall():
                base.execute("update messages set data = ? where rowid = ?", (zstd.compress(data), row))
    about = yaml.safe_load((folder / "metadata.yaml").read_text())
    inner = about["rosbag2_bagfile_information"]
    inner |= {"compression_mode": mode, "compression_format": "zstd"}
    if mode == "FILE":
        inner["relative_file_paths"] = [f"{file.name}.zstd"]
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
    return folder


@pytest.mark.parametrize("mode", ["MESSAGE", "FILE"])
def test_packed_bags_are_read(tmp_path: Path, mode: str):
    found = read_recording(packed(small(tmp_path / "bag", "sqlite3"), mode))
    assert [data for _, data in read_frames(found)] == [jpeg(), jpeg("blue")]


def test_files_of_unusual_names_are_read(tmp_path: Path):
    folder = small(tmp_path / "bag")
    packed(folder, "FILE")
    (whole,) = folder.glob("*.mcap.zstd")
    (folder / "metadata.yaml").unlink()
    capital = tmp_path / "WALK.MCAP"
    small(tmp_path / "other")
    shutil.copy(next((tmp_path / "other").glob("*.mcap")), capital)
    for path in (folder, whole, capital):
        assert len(list(read_frames(read_recording(path)))) == 2


@pytest.mark.parametrize("identifier", ["", None, "unknown"])
def test_a_bag_whose_metadata_do_not_say_its_storage_is_read(tmp_path: Path, identifier: str | None):
    folder = small(tmp_path / "bag")
    about = yaml.safe_load((folder / "metadata.yaml").read_text())
    about["rosbag2_bagfile_information"]["storage_identifier"] = identifier
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
    assert len(read_recording(folder).frames) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is damaged; remove it"),
        ("a: [", "is damaged; remove it"),
        ("rosbag2_bagfile_information: {relative_file_paths: []}", "names no file"),
        ("rosbag2_bagfile_information: {relative_file_paths: [no.mcap]}", "has no file no.mcap"),
        ("rosbag2_bagfile_information: {relative_file_paths: [../../x.mcap]}", "has no file x.mcap"),
        (
            "rosbag2_bagfile_information: {relative_file_paths: [metadata.yaml]}",
            "only .mcap and .db3 are read",
        ),
        ("#" * 5_000_000, "remove it: the bag is read without it"),
    ],
)
def test_damaged_metadata_are_one_sentence(tmp_path: Path, text: str, words: str):
    folder = small(tmp_path / "bag")
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(BagError, match=words) as caught:
        read_recording(folder)
    assert "\n" not in str(caught.value)
