"""Profiles: the times of a robot, a link and a pair, measured or published, for runs in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import yaml

from spec_decode_ros.decoding.methods import METHODS, method_named
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.grid import Cell, World, simulate_method
from spec_decode_ros.shipped import shipped_names, yaml_path

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """A published result from which an unpublished acceptance is found.

    `method` is ours that does the same, `times_cloud` its published speed as a multiple of that of the cloud alone, and
    `draft_upload_ms` the upload time of each of its drafts, where whole distributions are sent along.
    """

    method: str
    times_cloud: float
    draft_upload_ms: float = 0.0

    def __post_init__(self) -> None:
        verifies = method_named(self.method).server is not None
        if not (verifies and self.times_cloud > 0 and self.draft_upload_ms >= 0):
            raise SpecDecodeError(
                "a fit needs a method that verifies, times_cloud above 0 and no time below zero"
            )


@dataclass(frozen=True)
class Profile:
    """One YAML file of `config/profiles/`.

    It is simulated for all of `rtts_ms` and `acceptances`, where `fit` may stand in for the latter. `draft_ms` is the draft
    model's time per token, `world` has all others. `published` has published speeds by method, as multiples of that of the
    cloud alone.
    """

    name: str
    source: str
    rtts_ms: tuple[float, ...]
    draft_ms: float
    world: World
    acceptances: tuple[float, ...] = ()
    fit: Fit | None = None
    published: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rtts_ms or min(*self.rtts_ms, self.draft_ms) < 0:
            raise SpecDecodeError("a profile needs round-trip times, and no time below zero")
        if bool(self.acceptances) == bool(self.fit):
            raise SpecDecodeError("a profile needs either acceptances or a fit that tells one")
        for method in self.published:
            method_named(method)
        if not all(0 <= share <= 1 for share in self.acceptances):
            raise SpecDecodeError(f"acceptances are from 0 to 1, not {self.acceptances}")

    def cells(self, actions: int = 40) -> Iterator[Cell]:
        """All combinations; a fit simulates `actions` actions for each acceptance that it tries."""
        for rtt_ms in self.rtts_ms:
            for acceptance in self.acceptances or (self._fitted(rtt_ms, actions),):
                yield self._cell(rtt_ms, acceptance)

    def _cell(self, rtt_ms: float, acceptance: float) -> Cell:
        return Cell(rtt_ms, acceptance, self.draft_ms / self.world.step_ms)

    def _fitted(self, rtt_ms: float, actions: int) -> float:
        """The acceptance at which the method of the fit is as fast as published, to a thousandth."""
        assert self.fit is not None
        method = method_named(self.fit.method)
        world = replace(self.world, draft_upload_ms=self.fit.draft_upload_ms)
        low, high = 0.0, 1.0
        while high - low > 0.001:
            middle = (low + high) / 2
            cell = self._cell(rtt_ms, middle)
            alone = simulate_method(METHODS["cloud"], cell, self.world, 2).ttva_ms
            if alone / simulate_method(method, cell, world, actions).ttva_ms < self.fit.times_cloud:
                low = middle
            else:
                high = middle
        return round((low + high) / 2, 3)


_NEEDED = {"source", "rtts_ms", "draft_ms", "world"}


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return shipped_names("profile")


def load_profile(name_or_path: str) -> Profile:
    """Read a shipped profile by name, or any by the path of its YAML file. Raises SpecDecodeError."""
    return load_yaml("profile", name_or_path, _profile)


def load_yaml(kind: str, name_or_path: str, make: Callable[[str, Any], T]) -> T:
    """What `make` makes of the name and content of a YAML file of some kind, shipped or by path.

    Raises SpecDecodeError if the file cannot be read, or `make` raises TypeError, ValueError or KeyError.
    """
    path = yaml_path(kind, name_or_path)
    try:
        return make(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, TypeError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise SpecDecodeError(f"{path} is not a {kind}: {' '.join(str(error).split())}") from error


def _profile(name: str, document: Any) -> Profile:
    if not isinstance(document, dict):
        raise ValueError("it has to be a mapping")
    known = {field.name for field in fields(Profile)} - {"name"}
    strange = sorted(str(key) for key in (set(document) - known) | (_NEEDED - set(document)))
    if strange:
        raise ValueError(f"missing or unknown: {', '.join(strange)}")
    values = dict(document)
    values["world"] = World(**values["world"])
    for key in ("rtts_ms", "acceptances"):
        values[key] = tuple(float(value) for value in values.get(key, ()))
    if values.get("fit"):
        values["fit"] = Fit(**values["fit"])
    values["published"] = {str(key): float(value) for key, value in values.get("published", {}).items()}
    return Profile(name, str(values.pop("source")), **{**values, "draft_ms": float(values["draft_ms"])})
