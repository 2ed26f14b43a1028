"""Method variants: a decoding method, with an objective where the method adapts to one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spec_decode_ros.decoding.controller import OBJECTIVES, Objective
from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class MethodVariant:
    """A method, and an objective if it adapts."""

    method: str
    objective: Objective | None = None

    def __post_init__(self) -> None:
        method_named(self.method)
        if self.objective not in (None, *OBJECTIVES):
            raise SpecDecodeError(
                f"There is no objective {self.objective!r}; choose one of {', '.join(OBJECTIVES)}."
            )

    @property
    def name(self) -> str:
        return f"{self.method}, {self.objective}" if self.objective else self.method

    @property
    def label(self) -> str:
        """The name without a comma, as fleet plans have it."""
        return self.name.replace(",", "")


def variants_of(methods: Iterable[str]) -> tuple[MethodVariant, ...]:
    """One variant per method; of methods that adapt, one per objective."""
    found: list[MethodVariant] = []
    for name in methods:
        adapts = method_named(name).adapts
        found += [MethodVariant(name, objective) for objective in (OBJECTIVES if adapts else (None,))]
    return tuple(found)
