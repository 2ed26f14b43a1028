"""The schema of settings, for command lines, environment, files and ROS parameters alike.

A dataclass of settings has fields made by :func:`setting`; :func:`settings_of` lists them, and :func:`check_settings`
checks an instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from spec_decode_ros.errors import SpecDecodeError

Value = bool | int | float | str

_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True)
class Setting:
    """One setting; its type is that of the default.

    Attributes:
        meaning: a phrase that says what it sets, with its unit.
        low, high: bounds of a number, both or neither.
        choices: the only values, where there are few.
        fixed: it cannot change while the program runs.
        shape: how help shows a value.

    Raises:
        SpecDecodeError: the default is not one of the values.
    """

    name: str
    default: Value
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False
    shape: str = ""

    def __post_init__(self) -> None:
        if not self.meaning or (self.low is None) is not (self.high is None):
            raise SpecDecodeError(f"the setting {self.name} needs a meaning, and both bounds or none")
        self.check(self.default)

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> Value:
        """The value in its type. Raises SpecDecodeError if it is of another, or out of its range."""
        wanted = type(self.default)
        if wanted in (float, str) and type(value) is int:  # as in `metrics: 9464` of a file
            value = wanted(value)
        if type(value) is not wanted:
            raise SpecDecodeError(f"{self.name} must be {_KINDS[wanted]}, not {value!r}.")
        assert isinstance(value, bool | int | float | str)
        if self.choices and value not in self.choices:
            known = ", ".join(choice or "empty" for choice in self.choices)
            raise SpecDecodeError(f"{self.name} must be one of {known}, not {value!r}.")
        if self.low is not None and self.high is not None:
            assert isinstance(value, int | float)
            if not (math.isfinite(value) and self.low <= value <= self.high):
                raise SpecDecodeError(
                    f"{self.name} must be from {self.low:g} to {self.high:g}, not {value:g}."
                )
        return value

    def read(self, text: str) -> Value:
        """The value that a text says. Raises SpecDecodeError."""
        wanted = type(self.default)
        try:
            value = _TRUTH[text.strip().lower()] if wanted is bool else wanted(text)
        except (KeyError, ValueError):
            raise SpecDecodeError(f"{self.name} must be {_KINDS[wanted]}, not {text!r}.") from None
        return self.check(value)


def setting(
    default: Value, meaning: str, low: float | None = None, high: float | None = None, **others: Any
) -> Any:
    """A field of a dataclass that is a `Setting`; `others` are further attributes of that."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, **others})


def settings_of(kind: Any) -> dict[str, Setting]:
    """The settings of a dataclass by name, in the order of its fields."""
    return {
        entry.name: Setting(entry.name, entry.default, **entry.metadata)  # type: ignore[arg-type]
        for entry in fields(kind)
        if entry.metadata
    }


def check_settings(config: Any) -> None:
    """Check the settings of a dataclass's instance, in its `__post_init__`, and put them into their types.

    Raises SpecDecodeError.
    """
    for each in settings_of(type(config)).values():
        object.__setattr__(config, each.name, each.check(getattr(config, each.name)))
