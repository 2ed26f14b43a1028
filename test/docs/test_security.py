"""The security page names defences, files and tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(test/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 12
    for file, name in named:
        tree = ast.parse((REPOSITORY / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)


def test_every_file_that_is_named_exists() -> None:
    cells = re.findall(r"`((?:transport|models|server)/[\w/]*\w+\.py)`((?:, `\w+\.py`)*)", TEXT)
    assert len(cells) > 10
    for first, others in cells:
        folder = (REPOSITORY / "spec_decode_ros" / first).parent
        for file in [Path(first).name, *re.findall(r"`(\w+\.py)`", others)]:
            assert (folder / file).is_file(), folder / file


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (REPOSITORY / "docs" / target).exists(), target
    titles = [line.lstrip("# ").lower() for line in TEXT.splitlines() if line.startswith("#")]
    headings = {title.replace(",", "").replace(" ", "-") for title in titles}
    for anchor in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert anchor in headings, anchor


def test_the_limits_are_those_of_the_software() -> None:
    from spec_decode_ros.pictures import MOST_PIXELS
    from spec_decode_ros.transport.connection_guard import ConnectionLimits
    from spec_decode_ros.transport.secured_router import _HANDSHAKE_MS, UNREAD_BYTES

    assert f"{MOST_PIXELS / 1e6:.1f} million pixels" in TEXT
    assert (
        f"ended after {ConnectionLimits(1).silence_s:.0f} s, without a handshake after {_HANDSHAKE_MS / 1000:.0f} s"
        in TEXT
    )
    assert f"at most {ConnectionLimits(1).most_each} connections" in TEXT
    assert f"about {UNREAD_BYTES // 2**20 // 10 * 10} MB" in TEXT
