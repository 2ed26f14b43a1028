"""The operator's documents say what the software says: sentences, arguments, parameters and commands exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from spec_decode_ros.cli import build_parser, command_names

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(f"docs/{name}.md" for name in ("go2", "outages", "security", "training", "troubleshooting"))
GAP = "…"


def sentences(path: Path) -> list[str]:
    """Every text in a Python file, with a gap for what is put in while it runs."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
            found.append("".join(parts))
    return found


@pytest.fixture(scope="module")
def said() -> str:
    """All that the software can say, one text a line."""
    files = [*(REPOSITORY / "spec_decode_ros").rglob("*.py"), *(REPOSITORY / "launch").glob("*.py")]
    return "\n".join(" ".join(text.split()) for file in sorted(files) for text in sentences(file))


def quotes() -> list[str]:
    lines = (REPOSITORY / "docs" / "troubleshooting.md").read_text().splitlines()
    return [line.removeprefix("> ") for line in lines if line.startswith("> ")]


@pytest.mark.parametrize("quote", quotes())
def test_a_quoted_sentence_is_one_that_the_software_says(said: str, quote: str) -> None:
    assert quote in said, "the code says it otherwise now: quote it as it is, … for what varies"


def test_quotes_are_specific_enough() -> None:
    found = quotes()
    assert len(found) > 40
    assert len(found) == len(set(found))
    for quote in found:
        assert len(quote.replace(GAP, "")) > 10, quote


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        if file:
            assert (REPOSITORY / document).with_name(file).is_file(), target
        else:
            assert heading in headings, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_launch_arguments_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    files = {path.name: path.read_text() for path in (REPOSITORY / "launch").glob("*.py")}
    for name in set(re.findall(r"\b([a-z0-9_]+\.launch\.py)\b", text)):
        assert name in files, name
    everything = "\n".join(files.values())
    for argument in set(re.findall(r"\b([a-z0-9_]+):=", text)) - {"__ns"}:
        assert f'"{argument}"' in everything, f"no launch file has an argument {argument}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    lines = re.findall(r"spec-decode ([a-z0-9-]+)((?:\s+[^\s`|)]+)*)", text)
    assert lines
    for command, rest in lines:
        assert command in command_names(), command
        parser = build_parser([command])
        options = next(
            action.choices[command] for action in parser._actions if isinstance(action.choices, dict)
        ).format_help()
        for option in re.findall(r"(--[a-z-]+)", rest.partition("\n\n")[0].partition("spec-decode")[0]):
            assert option in options, f"spec-decode {command} has no {option}"


def test_parameters_of_the_first_day_exist() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
    pytest.importorskip("torch", reason="torch is not installed: the drafter needs it")
    import importlib

    block = re.search(r"```\n(/\*\*/motion_node:.*?)```", (REPOSITORY / "docs" / "go2.md").read_text(), re.S)
    assert block
    for key, value in yaml.safe_load(block[1]).items():
        module = importlib.import_module(f"spec_decode_ros.nodes.{key.rpartition('/')[2]}")
        parameters = {parameter.name: parameter for parameter in module.PARAMETERS}
        for name, given in value["ros__parameters"].items():
            assert type(given) is type(parameters[name].default), name
            assert not parameters[name].choices or given in parameters[name].choices
