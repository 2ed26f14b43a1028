"""The settings of a verifier service as options of a command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from spec_decode_ros.server.config import SETTINGS
from spec_decode_ros.server.config_sources import Resolved, resolve
from spec_decode_ros.settings import Setting


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] = SETTINGS) -> None:
    """One option for each setting, all of them by default."""
    parser.add_argument("--config", metavar="FILE", help="settings as YAML; also SPEC_DECODE_CONFIG")
    for name in names:
        _add(parser, SETTINGS[name])


def resolved_settings(args: argparse.Namespace) -> Resolved:
    """The settings of all sources. Raises SpecDecodeError.

    A process that ends with its parent takes nothing from the environment and logs warnings only: whoever started it
    says all that there is to say.
    """
    given: dict[str, str | bool] = {name: value for name, value in vars(args).items() if name in SETTINGS}
    if args.with_parent:
        return resolve({"log_level": "warning", **given}, {}, args.config)
    return resolve(given, os.environ, args.config)


def _add(parser: argparse.ArgumentParser, setting: Setting) -> None:
    meaning = setting.meaning if setting.default in ("", False) else f"{setting.meaning} ({setting.default})"
    if isinstance(setting.default, bool):
        parser.add_argument(
            setting.option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=meaning
        )
        return
    number = "N" if isinstance(setting.default, int) else "X"
    shape = "|".join(filter(None, setting.choices)) or setting.shape or number
    parser.add_argument(setting.option, metavar=shape, default=argparse.SUPPRESS, help=meaning)
