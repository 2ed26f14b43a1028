"""Finds YAML files that are shipped with the package by name, and a user's own by path."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from spec_decode_ros.errors import SpecDecodeError


def shipped_names(kind: str) -> list[str]:
    """Names of the YAML files in ``config/<kind>s``."""
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def yaml_path(kind: str, name_or_path: str) -> Path:
    """Where the shipped file of this name is, or the user's own, whose path ends in .yaml or .yml.

    Raises:
        SpecDecodeError: no file of this kind and name is shipped.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    if name_or_path not in shipped_names(kind):
        raise SpecDecodeError(
            f"There is no {kind} {name_or_path!r}: choose one of {', '.join(shipped_names(kind))}, or give the path "
            f"of a {kind} file ending in .yaml."
        )
    return _folder(kind) / f"{name_or_path}.yaml"


def read_yaml(path: Path, what: str) -> Any:
    """The document in a YAML file; `what` it is begins the sentence of an error. Raises SpecDecodeError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecDecodeError(f"{what} {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise SpecDecodeError(f"{what} {path} is not valid YAML: {' '.join(str(error).split())}.") from error


def _folder(kind: str) -> Path:
    return Path(str(files("spec_decode_ros"))) / "config" / f"{kind}s"
