"""Profiles: the times of a robot, a link and a pair, measured or published, for runs in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from spec_decode_ros.bench.grid import Cell, World
from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class Profile:
    """One YAML file of `config/profiles/`.

    Attributes:
        source: where the times come from.
        rtts_ms: round-trip times to look at.
        acceptances: shares of drafted tokens that the target confirms.
        draft_ms: a token of the draft model.
        world: the other times, and the length of an answer.
    """

    name: str
    source: str
    rtts_ms: tuple[float, ...]
    acceptances: tuple[float, ...]
    draft_ms: float
    world: World

    def __post_init__(self) -> None:
        if not (self.rtts_ms and self.acceptances) or min(*self.rtts_ms, self.draft_ms) < 0:
            raise SpecDecodeError("a profile needs round-trip times and acceptances, and no time below zero")
        if not all(0 <= share <= 1 for share in self.acceptances):
            raise SpecDecodeError(f"acceptances are from 0 to 1, not {self.acceptances}")

    def cells(self) -> Iterator[Cell]:
        """Every combination."""
        for rtt_ms in self.rtts_ms:
            for acceptance in self.acceptances:
                yield Cell(rtt_ms, acceptance, self.draft_ms / self.world.step_ms)


def _folder() -> Path:
    return Path(str(files("spec_decode_ros"))) / "config" / "profiles"


def profile_names() -> list[str]:
    """Names of the profiles that are shipped."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_profile(name_or_path: str) -> Profile:
    """Read a shipped profile by name, or any by the path of its YAML file.

    Raises:
        SpecDecodeError: if it cannot be read, or something in it is not a profile's.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = _folder() / f"{name_or_path}.yaml"
        if name_or_path not in profile_names():
            raise SpecDecodeError(
                f"there is no profile {name_or_path!r}: choose one of {', '.join(profile_names())}, or give the path of "
                "a file ending in .yaml"
            )
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _profile(path.stem, document)
    except OSError as error:
        raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, TypeError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise SpecDecodeError(f"{path} is not a profile: {' '.join(str(error).split())}") from error


def _profile(name: str, document: Any) -> Profile:
    if not isinstance(document, dict):
        raise ValueError("it has to be a mapping")
    known = {field.name for field in fields(Profile)} - {"name"}
    strange = sorted(str(key) for key in set(document) ^ known)
    if strange:
        raise ValueError(f"missing or unknown: {', '.join(strange)}")
    values = dict(document)
    values["world"] = World(**values["world"])
    for key in ("rtts_ms", "acceptances"):
        values[key] = tuple(float(value) for value in values[key])
    return Profile(name, str(values.pop("source")), **{**values, "draft_ms": float(values["draft_ms"])})
