"""What launch does not check by itself: misspelt arguments, and parameter files that are not there. No ROS."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path

import yaml

from spec_decode_ros.errors import SpecDecodeError

_NEAR = 0.85


def check_arguments(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse an argument that is almost a known one; others may be those of a launch file around this one.

    Raises:
        SpecDecodeError: the robot would run with other settings than those meant.
    """
    for name in given:
        if name not in known and (near := difflib.get_close_matches(name, known, 1, _NEAR)):
            raise SpecDecodeError(f"there is no argument {name}: did you mean {near[0]}?")


def check_params_file(file: str, nodes: Collection[str], example: Path) -> None:
    """Refuse a parameter file that cannot be read, or that has parameters of a node that is almost one of `nodes`.

    Raises:
        SpecDecodeError: the robot would run with other limits than those meant.
    """
    remedy = f"give a copy of {example}"
    try:
        document = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or "it is no YAML"
        raise SpecDecodeError(f"the params_file {file} cannot be read ({why}): {remedy}") from None
    if not isinstance(document, dict) or not document:
        raise SpecDecodeError(f"the params_file {file} names no nodes: {remedy}")
    for key in document:
        node = str(key).rpartition("/")[2]
        if node not in nodes and (near := difflib.get_close_matches(node, nodes, 1, _NEAR)):
            raise SpecDecodeError(f"the params_file {file} has parameters of {node}: did you mean {near[0]}?")
