"""docs/operations.md names the settings and metrics that there are, no others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))

from spec_decode_ros.cli import build_parser, command_names
from spec_decode_ros.server.config import SETTINGS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
TEXT = DOCUMENT.read_text()


def table(heading: str) -> dict[str, list[str]]:
    """The rows of all tables below a heading, by their first cell."""
    below = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `.*\|$", below, re.M)
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_settings_are_those_that_there_are_with_their_defaults() -> None:
    rows = table("Settings")
    assert list(rows) == list(SETTINGS)
    for name, (default, _) in rows.items():
        assert SETTINGS[name].read(default) == SETTINGS[name].default, name


def test_metrics_are_those_that_there_are() -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: metrics need it")
    from exposed import exposed_metrics, exposed_page

    exposed = exposed_metrics(exposed_page())
    rows = {name: kind for name, (kind, _) in table("Watch").items()}
    assert rows == exposed
    for name, kind in exposed.items():
        assert name.endswith("_total") == (kind == "counter")
    for name in set(re.findall(r"\b(spec_decode_\w+?)(?:_bucket|_sum|_count)?\b[\[{)\s]", TEXT)):
        assert name in exposed, name


def test_commands_and_options_exist() -> None:
    for command, rest in re.findall(r"spec-decode ([a-z-]+)((?: --[a-z-]+| [^-\s`]\S*)*)", TEXT):
        if command not in command_names():
            continue
        choices = next(a.choices for a in build_parser([command])._actions if isinstance(a.choices, dict))
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in choices[command].format_help(), f"spec-decode {command} has no {option}"


def test_links_within_the_page_lead_somewhere() -> None:
    headings = {line[3:].lower().replace(" ", "-") for line in TEXT.splitlines() if line.startswith("## ")}
    targets = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert len(targets) > 8 and set(targets) <= headings
    for file in set(re.findall(r"\]\(([^)#]+)\)", TEXT)):
        assert (DOCUMENT.parent / file).is_file(), file
