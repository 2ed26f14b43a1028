"""The package keeps its architecture: imports point downwards, no circles, rclpy in its rooms, unique names, small files."""

from __future__ import annotations

from pathlib import Path

import pytest
from architecture import (
    SourceTree,
    circles,
    exceptions,
    oversized,
    rclpy_imports,
    repeated_classes,
    unexcused,
    upward_imports,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package() -> SourceTree:
    return SourceTree(REPOSITORY / "spec_decode_ros")


def test_imports_point_downwards(package: SourceTree) -> None:
    found = upward_imports(package)
    assert not found, "\n".join(found)


def test_no_two_files_import_each_other(package: SourceTree) -> None:
    found = circles(package)
    assert not found, "\n".join(found)


def test_rclpy_stays_in_its_rooms(package: SourceTree) -> None:
    found = rclpy_imports(package)
    assert not found, "\n".join(found)


def test_no_two_classes_have_one_name(package: SourceTree) -> None:
    found = repeated_classes(package)
    assert not found, "\n".join(found)


def test_files_and_functions_are_small(package: SourceTree) -> None:
    found = unexcused(oversized(package), exceptions(REPOSITORY / "docs" / "architecture.md"))
    assert not found, "\n".join(found)


@pytest.fixture
def tree_of(tmp_path: Path):
    """Makes a package of files with the given contents."""

    def make(**files: str) -> SourceTree:
        root = tmp_path / "robot"
        for name, text in {"__init__": "", **files}.items():
            path = root / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return SourceTree(root)

    return make


def test_an_import_of_a_room_above_is_found_wherever_it_stands(tree_of) -> None:
    low = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from robot.lab.bench import Bench\n"
        "def late():\n    import robot.nodes.camera\n"
        "from robot import cli\n"
        "from robot.actions.text import Text\n"
    )
    tree = tree_of(
        models__in__edge=low,
        actions__in__text="",
        lab__in__bench="from robot.models import edge\nfrom ..nodes import camera",
        nodes__in__camera="",
        cli="import robot.lab.bench",
    )
    assert upward_imports(tree) == [
        "models/edge.py:3 imports lab/bench.py, which is not below it",
        "models/edge.py:5 imports nodes/camera.py, which is not below it",
        "models/edge.py:6 imports cli.py, which is not below it",
    ]


def test_rooms_of_one_layer_do_not_import_each_other(tree_of) -> None:
    tree = tree_of(
        server__in__a="import robot.edge.b\nimport robot.server.c", server__in__c="", edge__in__b=""
    )
    assert upward_imports(tree) == ["server/a.py:1 imports edge/b.py, which is not below it"]


def test_a_new_room_has_to_get_a_layer_and_modules_have_to_exist(tree_of) -> None:
    tree = tree_of(
        attic__in__a="import robot.errors\nfrom robot.errors import Gone", errors="import robot.nothing"
    )
    assert upward_imports(tree) == [
        "attic/a.py:1: the room attic/ has no layer",
        "attic/a.py:2: the room attic/ has no layer",
        "errors.py:1 imports nothing, which does not exist",
    ]


def test_circles_name_their_files(tree_of) -> None:
    tree = tree_of(
        sim__in__a="from robot.sim.b import B",
        sim__in__b="def f():\n    from . import c",
        sim__in__c="from robot.sim import a",
        sim__in__d="import robot.sim.a",
        sim__in__e="import robot.sim.e",
    )
    assert circles(tree) == [
        "sim/a.py imports sim/b.py, which leads back to it",
        "sim/b.py imports sim/c.py, which leads back to it",
        "sim/c.py imports sim/a.py, which leads back to it",
    ]


def test_rclpy_is_found_in_code_and_in_texts_that_hold_code(tree_of) -> None:
    tree = tree_of(
        nodes__in__a="import rclpy",
        lab__in__a="def f():\n    from rclpy.node import Node",
        commands__in__a="code = 'import rclpy\\nrclpy.init()'",
        commands__in__doctor="code = 'import rclpy'",
        sim__in__a="'''It does without rclpy.'''\nimport rclpy_stand_in",
    )
    assert rclpy_imports(tree) == ["commands/a.py:1 imports rclpy", "lab/a.py:2 imports rclpy"]


def test_classes_of_one_name_are_found_also_within_functions(tree_of) -> None:
    tree = tree_of(sim__in__a="class Room: ...\nclass Wall: ...", lab__in__b="def f():\n    class Room: ...")
    assert repeated_classes(tree) == ["Room: lab/b.py:2, sim/a.py:1"]


def test_sizes_and_their_exceptions(tree_of, tmp_path: Path) -> None:
    long = "class A:\n    def long(self):\n" + "        pass\n" * 60
    many = "def many(a, b, c, *, d, e, f, g, h, i, **more): ...\n"
    fits = "class B:\n    def fits(self, a, b, c, d, e, f, g, h): ...\n"
    found = oversized(tree_of(sim__in__a=long + many + fits, sim__in__b="\n" * 401, sim__in__c="\n" * 400))
    assert found == {
        "sim/a.py:A.long": "61 lines, at most 60",
        "sim/a.py:many": "9 parameters, at most 8",
        "sim/b.py": "401 lines, at most 400",
    }
    assert len(unexcused(found, set())) == 3
    document = tmp_path / "architecture.md"
    assert exceptions(document) == set()
    document.write_text(
        "## Rooms\n- `sim/c.py`: not here\n## Exceptions\n- `spec_decode_ros/sim/a.py:long`: a table of cases\n"
        "- `sim/a.py:many`:\n- `sim/b.py`: data\n- `sim/old.py`: was data\n## Next\n- `sim/d.py`: nor here\n"
    )
    assert exceptions(document) == {"sim/a.py:long", "sim/b.py", "sim/old.py"}
    assert unexcused(found, exceptions(document)) == [
        "sim/a.py:many has 9 parameters, at most 8",
        "the exception sim/old.py is not needed",
    ]
