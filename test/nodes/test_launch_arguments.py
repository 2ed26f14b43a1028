"""The robot is not launched with other limits than those meant."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.launch_arguments import check_arguments, check_params_file

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "config" / "robot.yaml"
NODES = ("motion_node", "drafter_node", "camera_node", "planner_node")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read (No such file or directory): give a copy of"),
        ("a: [", "cannot be read (it is no YAML)"),
        ("\x80", "cannot be read (it is no YAML)"),
        ("", "names no nodes"),
        ("- 1", "names no nodes"),
        ("/**/motion_nod:\n  ros__parameters: {max_vx: 0.3}", "of motion_nod: did you mean motion_node?"),
    ],
)
def test_a_params_file_that_would_not_count_is_refused(text, sentence, tmp_path):
    file = tmp_path / "own.yaml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecDecodeError, match=re.escape(sentence)):
        check_params_file(str(file), NODES, EXAMPLE)


def test_the_shipped_files_are_good():
    check_params_file(str(EXAMPLE), NODES, EXAMPLE)
    check_params_file(str(REPOSITORY / "config" / "sim.yaml"), NODES, EXAMPLE)


def test_a_misspelt_argument_is_refused_and_no_argument_of_another_launch_file_is():
    source = ast.parse((REPOSITORY / "launch" / "robot.launch.py").read_text())
    table = next(
        node.value
        for node in source.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "ARGUMENTS"
    )
    known = [key.value for key in table.keys]
    assert "params_file" in known
    for wrong in (
        "param_file",
        "params_fil",
        "parms_file",
        "endpont",
        "network_interfce",
        "unverified_facto",
    ):
        with pytest.raises(SpecDecodeError, match="did you mean"):
            check_arguments([wrong], known)
    others = "cloud_params_file cloud_namespace bind keys insecure device threads metrics planner_bind seed go2_domain"
    check_arguments([*known, *others.split(), "world", "headless", "stamp", "launch_file_dir"], known)
