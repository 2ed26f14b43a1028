"""Regions of a fleet: shares of its robots, round-trip times and GPU prices, from a YAML file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.profile.profile import load_yaml
from spec_decode_ros.shipped import shipped_names


@dataclass(frozen=True)
class Region:
    """Robots with a data centre of their own.

    `share` is of the fleet's robots, `rtt_ms` the time to their servers and back, `gpu_hour` the price of a GPU for an
    hour, in the same currency everywhere.
    """

    name: str
    share: float
    rtt_ms: float
    gpu_hour: float

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise SpecDecodeError("a region needs a name")
        for field, most in (("share", 1.0), ("rtt_ms", 1e5), ("gpu_hour", 1e6)):
            value = getattr(self, field)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and 0 <= value <= most):
                raise SpecDecodeError(
                    f"{field} of the region {self.name} is from 0 to {most:g}, not {value!r}"
                )


@dataclass(frozen=True)
class Fleet:
    """All regions; their shares add up to 1."""

    name: str
    currency: str
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        names = [region.name for region in self.regions]
        if not names or len(set(names)) < len(names):
            raise SpecDecodeError("a fleet needs regions, each with a name of its own")
        total = sum(region.share for region in self.regions)
        if abs(total - 1) > 1e-6:
            raise SpecDecodeError(f"the shares of a fleet's regions add up to 1, not {total:g}")

    def robots(self, total: int) -> dict[str, int]:
        """Robots by region; the largest remainders are rounded up, so that none is lost."""
        exact = {region.name: region.share * total for region in self.regions}
        robots = {name: math.floor(value + 1e-9) for name, value in exact.items()}
        by_rest = sorted(exact, key=lambda name: robots[name] - exact[name])
        for name in by_rest[: total - sum(robots.values())]:
            robots[name] += 1
        return robots


def fleet_names() -> list[str]:
    """Names of the shipped fleets."""
    return shipped_names("fleet")


def load_fleet(name_or_path: str) -> Fleet:
    """Read a shipped fleet by name, or any by the path of its YAML file. Raises SpecDecodeError."""
    return load_yaml("fleet", name_or_path, _fleet)


def _fleet(name: str, document: Any) -> Fleet:
    if not isinstance(document, dict) or set(document) - {"currency", "regions"}:
        raise ValueError("it has to be a mapping with currency and regions, and nothing else")
    regions = document.get("regions")
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise ValueError("regions has to be a list of mappings")
    return Fleet(name, str(document.get("currency", "")), tuple(Region(**region) for region in regions))
