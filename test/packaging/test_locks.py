"""The locks of `make lock` are whole, and say what constraints.txt and extras.py say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spec_decode_ros.extras import CORE, EXTRAS, SIM_ASSETS

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"
CONTAINER = "container-linux-x86_64-cpython-311"
EVERYTHING = "linux-x86_64-cpython-311"
PLACE = {"python_version": "3.11", "platform_machine": "x86_64", "sys_platform": "linux"}
_PIN = re.compile(r"([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def locked(name: str) -> dict[str, str]:
    """Versions by name; what is not a pin with a hash fails."""
    text = (LOCKS / f"{name}.txt").read_text()
    comment, _, pins = text.partition("\n")
    assert "make lock" in comment
    assert _PIN.sub("", pins).strip() == ""
    return {canonicalize_name(package): version for package, version, _ in _PIN.findall(pins)}


def wanted(lines: tuple[str, ...]) -> list[Requirement]:
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate(dict(PLACE))]


@pytest.mark.parametrize(
    ("name", "extras"), [(CONTAINER, ("cloud", "grammar", "metrics")), (EVERYTHING, tuple(EXTRAS))]
)
def test_what_the_package_needs_is_locked_in_a_version_that_fits(name: str, extras: tuple[str, ...]) -> None:
    pins = locked(name)
    for each in wanted((*CORE, *(line for extra in extras if extra != "camera" for line in EXTRAS[extra]))):
        if (name, each.name) == (EVERYTHING, "torch"):
            assert "torch" not in pins, "its build depends on the machine"
            continue
        assert each.specifier.contains(pins[canonicalize_name(each.name)], prereleases=True), each


@pytest.mark.parametrize("name", [CONTAINER, EVERYTHING])
def test_what_constraints_pin_is_locked_likewise(name: str) -> None:
    pins = locked(name)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for each in wanted(tuple(line for line in lines if line and not line.startswith("#"))):
        version = pins.get(canonicalize_name(each.name))
        assert version is None or each.specifier.contains(version), each
    assert SIM_ASSETS in locked(EVERYTHING) and "torch" in locked(CONTAINER)


def test_both_locks_agree() -> None:
    everything = locked(EVERYTHING)
    for package, version in locked(CONTAINER).items():
        assert everything.get(package, version) == version, package


def test_no_package_index_is_named() -> None:
    for path in LOCKS.iterdir():
        assert "://" not in path.read_text() and "--index" not in path.read_text()
