"""Sources of a service's settings; of several the later one wins.

Defaults, then a YAML file, then the environment (``SPEC_DECODE_<NAME>``), then the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import yaml

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.config import SETTINGS, ServiceConfig
from spec_decode_ros.settings import Value
from spec_decode_ros.shipped import read_yaml

PREFIX = "SPEC_DECODE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Names the file, where the command line does not."""

DEFAULT = "default"
COMMAND_LINE = "command line"

_LIKE = 0.8


@dataclass(frozen=True)
class Resolved:
    """The settings in force, and for each the source that it is from."""

    config: ServiceConfig
    origins: Mapping[str, str]

    def as_yaml(self) -> str:
        """The settings as a file that can be read again, with their sources as comments."""
        lines = [
            yaml.safe_dump({name: value}, default_flow_style=False, width=1000).rstrip()
            for name, value in asdict(self.config).items()
        ]
        width = max(map(len, lines))
        pairs = zip(lines, self.origins.values(), strict=True)
        return "".join(f"{line:<{width}}  # {origin}\n" for line, origin in pairs)


def resolve(
    given: Mapping[str, str | bool], environment: Mapping[str, str], file: str | Path | None = None
) -> Resolved:
    """Join all sources.

    Args:
        given: what the command line says, by name of the setting.
        environment: of the process; ``SPEC_DECODE_CONFIG`` names the file where `file` does not.
        file: of settings.

    Raises:
        SpecDecodeError: a setting that does not exist or a value that cannot be used; the sentence names the source.
    """
    values: dict[str, Value] = {s.name: s.default for s in SETTINGS.values()}
    origins = dict.fromkeys(values, DEFAULT)

    def take(name: str, read: Callable[[], Value], origin: str) -> None:
        try:
            values[name] = read()
        except SpecDecodeError as error:
            raise SpecDecodeError(f"{origin}: {error}") from None
        origins[name] = origin

    path = file or environment.get(CONFIG_VARIABLE)
    if path:
        for name, value in _read(Path(path)).items():
            take(name, partial(SETTINGS[name].check, value), str(path))
    for variable, name in _in_environment(environment).items():
        take(name, partial(SETTINGS[name].read, environment[variable]), f"environment {variable}")
    for name, text in given.items():
        take(name, partial(SETTINGS[name].read, str(text)), COMMAND_LINE)
    return Resolved(ServiceConfig(**values), origins)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, object]:
    document = read_yaml(path, "The file of settings")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SpecDecodeError(f"{path} must have lines such as `bind: tcp://0.0.0.0:5555`.")
    for name in map(str, document):
        if name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, 1, 0.6)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(SETTINGS)}."
            raise SpecDecodeError(f"{path}: there is no setting {name!r}; {hint}")
    return document


def _in_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings; one that nearly has the name of a setting is refused, others are ignored."""
    known = {f"{PREFIX}{name.upper()}": name for name in SETTINGS}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known and variable != CONFIG_VARIABLE:
            close = difflib.get_close_matches(
                variable.removeprefix(PREFIX), map(str.upper, SETTINGS), 1, _LIKE
            )
            if close:
                raise SpecDecodeError(
                    f"The environment variable {variable} sets nothing; did you mean {PREFIX}{close[0]}?"
                )
    return {variable: name for variable, name in known.items() if variable in environment}
