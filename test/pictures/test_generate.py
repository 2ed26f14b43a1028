"""`spec-decode generate --image` with the pictures that people have: a phone's, an editor's, a scanner's."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the draft model needs it")

from PIL import Image

from spec_decode_ros import cli

CAMERA = Path(__file__).parents[2] / "docs" / "images" / "camera.jpg"


def generate(*images: Path) -> tuple[int, dict, str]:
    """Exit code, result and standard error."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [word for image in images for word in ("--image", str(image))]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(
            [
                "generate",
                "--method",
                "edge",
                "--instruction",
                "go to the red chair",
                "--json",
                "-",
                *arguments,
            ]
        )
    return code, json.loads(out.getvalue()) if code == 0 else {}, err.getvalue()


@pytest.fixture(scope="module")
def upright() -> list[int]:
    return generate(CAMERA)[1]["tokens"]


def test_a_phones_picture_gives_the_same_action_as_the_upright_one(
    tmp_path: Path, upright: list[int]
) -> None:
    with Image.open(CAMERA) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "phone.png", exif=exif)
    turned.save(tmp_path / "sideways.png")
    assert generate(tmp_path / "phone.png")[1]["tokens"] == upright
    assert generate(tmp_path / "sideways.png")[1]["tokens"] != upright  # so that the test can fail


def test_bytes_behind_the_picture_change_nothing(tmp_path: Path, upright: list[int]) -> None:
    (tmp_path / "edited.jpg").write_bytes(CAMERA.read_bytes() + b"SEFH" * 40)
    assert generate(tmp_path / "edited.jpg")[1]["tokens"] == upright


def test_twelve_megapixels_are_scaled_down(tmp_path: Path) -> None:
    with Image.open(CAMERA) as image:
        image.resize((5000, 2500)).save(tmp_path / "large.jpg")
    code, result, err = generate(tmp_path / "large.jpg")
    assert (code, err) == (0, "")
    assert result["action"] is not None


def test_what_the_draft_model_refuses_is_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (2600, 2600)).save(large)
    code, _, err = generate(large, large)
    assert code == 2
    assert "pixels in all" in err and len(err.splitlines()) == 1
    assert not [record for record in caplog.records if record.exc_info]
