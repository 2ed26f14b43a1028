"""What comes from outside is printed as it is, but for control characters, which never reach a terminal."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="rich is not installed")

from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from spec_decode_ros import cli
from spec_decode_ros.console import PlainConsole
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.text_table import TextTable
from spec_decode_ros.printable import all_printable, printable
from spec_decode_ros.server.logs import TextFormatter
from spec_decode_ros.teleop.port import Notice, PartReport, PlanReport

PACKAGE = Path(cli.__file__).parent
ODD = ":v: [b] [/] [red]x[/red] https://a 'quoted' 12"
HOSTILE = "\x1b]0;title\x07\x1b[2Jgone\r\x9b1m\u202eback\x7f"
NAMED = r"\x1b]0;title\x07\x1b[2Jgone \x9b1m\u202eback\x7f"


def shown(*things: object, terminal: bool = False) -> str:
    out = io.StringIO()
    console = PlainConsole(
        file=out, width=200, force_terminal=terminal, color_system="truecolor" if terminal else None
    )
    for thing in things:
        console.print(thing)
    return out.getvalue()


def test_printable_text_names_control_characters_and_keeps_all_languages() -> None:
    assert printable(HOSTILE) == NAMED
    for text in ("", "geh zum roten Stuhl, bitte!", "红椅子", "کتاب‌ها", "👩‍🚀 ok", ODD):
        assert printable(text) == text
    assert printable("two\nlines\tand\u2028more") == "two lines and more"
    assert printable("\ud800") == r"\ud800"


def test_everything_in_an_event_of_the_robot_becomes_printable() -> None:
    report = PartReport("motion", 2, HOSTILE, {HOSTILE: HOSTILE})
    assert all_printable(report) == PartReport("motion", 2, NAMED, {NAMED: NAMED})
    plan = PlanReport(HOSTILE, "", ((HOSTILE, "running"),))
    assert all_printable(plan) == PlanReport(NAMED, "", ((NAMED, "running"),))
    assert all_printable(Notice("a", True)) == Notice("a", True)


def test_a_console_prints_text_tables_and_titles_as_they_are() -> None:
    table = Table("name", title=ODD)
    table.add_row(ODD)
    table.add_row(Text(ODD))
    text_table = TextTable([ODD, "b"], [[ODD, "1"], [Text(ODD, "red"), "2"]], ODD)
    for thing, count in ((ODD, 1), (Text(ODD), 1), (table, 3)):
        assert shown(thing).count(ODD) == count
    out = io.StringIO()
    text_table.print(PlainConsole(file=out, width=200))
    assert out.getvalue().count(ODD) == 4
    assert all(ODD in line for line in text_table.markdown()[2:])


def test_no_control_character_reaches_the_terminal_but_the_consoles_own_styles() -> None:
    table = Table("name", title=HOSTILE)
    table.add_row(HOSTILE)
    for thing in (HOSTILE, Text(HOSTILE, "bold red"), table):
        for terminal in (False, True):
            printed = re.sub(r"\x1b\[[0-9;]*m", "", shown(thing, terminal=terminal))
            assert printed.replace("\n", "").isprintable(), printed
            assert r"[2Jgone" in printed and r"\x9b1m\u202eback\x7f" in printed
            assert "\x1b[2J" not in shown(thing, terminal=terminal)


def test_every_console_is_made_in_one_place() -> None:
    made = re.compile(r"\bConsole\(|from_markup|markup=True|emoji=True|\brich\.print\b")
    found = {
        str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if made.search(file.read_text())
    }
    assert not found, "make a PlainConsole, and a rich.text.Text where text has a style"


def test_nothing_relies_on_markup() -> None:
    tags = re.compile(r"\[/\]|\[/?(?:bold|dim|red|green|yellow)[ \]]")
    found = [
        str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if tags.search(file.read_text())
    ]
    assert not found


def test_bars_take_descriptions_as_they_are() -> None:
    columns = re.compile(r"TextColumn\((?![^)]*markup=False)")
    assert TextColumn("x", markup=False).markup is False
    for file in PACKAGE.rglob("*.py"):
        assert not columns.search(file.read_text()), file


def test_errors_and_logs_hold_no_control_characters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert str(SpecDecodeError(f"{HOSTILE}\nnext")) == f"{NAMED} next"
    name = tmp_path / "walk\x1b[2J.mcap"
    assert cli.main(["replay", str(name)]) == 2
    assert r"walk\x1b[2J.mcap" in capsys.readouterr().err
    record = logging.LogRecord("spec_decode_ros", logging.WARNING, "", 1, "robot %s", (HOSTILE,), None)
    record.robot = "x\x1b[0m"
    line = TextFormatter().format(record)
    assert line.isprintable() and NAMED in line and r"robot=x\x1b[0m" in line


def test_the_list_of_keys_shows_each_key_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spec_decode_ros.server import key_admin
    from spec_decode_ros.transport.keys import make_keys, robots_of

    make_keys(tmp_path, "go2")
    (robot,) = robots_of(tmp_path)
    key = ":v:[b]:smile:[/b]" + "x" * 23
    monkeypatch.setattr(key_admin, "robots_of", lambda folder: [type(robot)(**{**vars(robot), "key": key})])
    key_admin.print_robots(tmp_path)
    assert key in capsys.readouterr().out
