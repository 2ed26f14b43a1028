"""Options that several commands have, numbers within bounds, and how a command ends."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec_decode_ros.decoding.controller import OBJECTIVES
from spec_decode_ros.decoding.messages import SAMPLERS, Sampler, Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from rich.console import Console

    from spec_decode_ros.lab.desk_stack import DeskStackOptions

PAIR_HELP = "model pair, by name or as a .yaml file (%(default)s)"


class Number(argparse.Action):
    """An option that is a finite number from `low` to `high`; with `above`, larger than that.

    Another number is refused with one sentence that names the option. A `type` of one's own may also return words.
    """

    kind: type[int] | type[float] = float

    def __init__(
        self,
        option_strings: list[str],
        dest: str,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        above: float = -math.inf,
        **more: Any,
    ) -> None:
        super().__init__(option_strings, dest, **{"type": self.kind, **more})
        self.low, self.high, self.above = low, high, above

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        for value in values if isinstance(values, list) else [values]:
            # Not by `type`, of which argparse takes every ValueError for text that is no number.
            if not isinstance(value, str) and not self._allows(value):
                raise SpecDecodeError(f"{option} is {value:.15g}: give {self._wanted()}")
        setattr(namespace, self.dest, values)

    def _allows(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high and value > self.above

    def _wanted(self) -> str:
        if self.above > -math.inf:
            return f"a number above {self.above:g}"
        if self.high < math.inf:
            return f"a number from {self.low:g} to {self.high:.15g}"
        return f"{self.low:g} or more" if self.low > -math.inf else "a finite number"


class Whole(Number):
    """The same for whole numbers."""

    kind = int


def add_number(
    group: argparse._ActionsContainer,
    name: str,
    kind: type[int] | type[float],
    meaning: str,
    metavar: str | None = None,
    **options: Any,
) -> None:
    """A number of that kind; `options` may be its default, its nargs, and the bounds of `Number`."""
    action = Whole if kind is int else Number
    group.add_argument(name, action=action, help=meaning, metavar=metavar, **options)


def add_value(
    group: argparse._ActionsContainer,
    name: str,
    default: float | str | Path,
    meaning: str,
    metavar: str | None = None,
    **bounds: float,
) -> None:
    """An option of the type of its default, with which its help ends; a number may have the bounds of `Number`."""
    if isinstance(default, float | int):
        help_ = f"{meaning} (%(default)g)" if isinstance(default, float) else f"{meaning} (%(default)s)"
        add_number(group, name, type(default), help_, metavar, default=default, **bounds)
    else:
        group.add_argument(
            name, type=type(default), default=default, help=f"{meaning} (%(default)s)", metavar=metavar
        )


def add_json(parser: argparse._ActionsContainer, what: str = "the result") -> None:
    """`--json`."""
    parser.add_argument(
        "--json", metavar="FILE", help=f"write {what} here; - is standard output, and only it"
    )


def add_pair(parser: argparse._ActionsContainer) -> None:
    """`--pair`, by default the one that is shipped."""
    parser.add_argument("--pair", default="tiny", help=PAIR_HELP)


def add_decoding(parser: argparse.ArgumentParser, objective: bool = True) -> None:
    """How frames are decided on: `--pair`, `--method`, and `--objective` where it can be chosen."""
    add_pair(parser)
    add_method(parser, objective)


def add_method(parser: argparse.ArgumentParser, objective: bool = True) -> None:
    """`--method`, and `--objective` where it can be chosen."""
    parser.add_argument(
        "--method", choices=tuple(METHODS), default="auto", help="decoding method (%(default)s)"
    )
    if objective:
        parser.add_argument(
            "--objective", choices=OBJECTIVES, default="latency", help="what auto aims at (%(default)s)"
        )


def add_verifier(parser: argparse.ArgumentParser, keys: bool = True) -> None:
    """Which verifier: `--endpoint`, `--keys`, `--target-fingerprint` and `--rtt-ms`."""
    parser.add_argument(
        "--endpoint",
        metavar="URL[,URL]",
        help="a running verifier, or several, of which the first that answers is used; by default one is started",
    )
    if keys:
        parser.add_argument(
            "--keys",
            metavar="DIR",
            help="folder of this robot's keys, if the server at --endpoint asks for keys",
        )
    parser.add_argument(
        "--target-fingerprint",
        default="",
        metavar="ID",
        help="target weights that the verifier must have, as `spec-decode serve` prints them; by default those of the first "
        "one used; any for no matter which",
    )
    add_value(parser, "--rtt-ms", 0.0, "round-trip time of an emulated network; 0 for none", "R", low=0)


def stack_options(args: argparse.Namespace, **more: Any) -> DeskStackOptions:
    """What the options of `add_decoding` and `add_verifier` say. Raises SpecDecodeError."""
    from spec_decode_ros.lab.desk_stack import DeskStackOptions

    given = {
        name: getattr(args, name)
        for name in ("objective", "keys", "target_fingerprint")
        if hasattr(args, name)
    }
    return DeskStackOptions(
        args.pair, args.method, endpoint=args.endpoint, rtt_ms=args.rtt_ms, **given, **more
    )


def add_sampling(parser: argparse.ArgumentParser, seed_help: str) -> None:
    """How tokens are chosen: `--temperature`, `--top-k`, `--top-p`, `--sampler` and `--seed`."""
    add_value(parser, "--temperature", 0.0, "sampling temperature; 0 is greedy", "T")
    add_value(parser, "--top-k", 0, "sample among the K likeliest tokens; 0 is off", "K")
    add_value(parser, "--top-p", 1.0, "sample within this probability mass; 1 is off", "P")
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default=Sampler.GUMBEL.value,
        help="gumbel: the target's own tokens for a seed; rejection: its distribution, with a new seed for every "
        "action (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=seed_help)


def sampling_of(args: argparse.Namespace) -> Sampling:
    """What the options of `add_sampling` say. Raises SpecDecodeError."""
    return Sampling(args.temperature, args.top_k, args.top_p, args.seed, args.sampler)


def add_frames(parser: argparse.ArgumentParser) -> None:
    """`--frames`, of which robots with recorded drafts get the drafts."""
    add_value(parser, "--frames", 40, "frames whose drafts are recorded", "N", low=1)


def add_patience(parser: argparse.ArgumentParser) -> None:
    """`--patience-s` of a balancer."""
    from spec_decode_ros.server.fleet.routing import RoutingPolicy

    meaning = "seconds before a robot is moved to another verifier in the middle of an action"
    add_value(parser, "--patience-s", RoutingPolicy.patience_s, meaning, "S")


def add_with_parent(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--with-parent`, for processes that are started by a program."""
    parser.add_argument("--with-parent", action="store_true", help=f"end when standard input closes{more}")


def console_of(args: argparse.Namespace) -> Console:
    """Where a command talks to people: standard error where the JSON goes to standard output."""
    from spec_decode_ros.console import PlainConsole

    return PlainConsole(stderr=args.json == "-")


def finish(
    args: argparse.Namespace,
    document: Any,
    success: bool = True,
    draw: Callable[[], object] | None = None,
) -> int:
    """Write the JSON where it was asked for, then draw, and return the exit code.

    A picture that cannot be drawn costs no figures that way.
    """
    if args.json:
        from spec_decode_ros.json_output import write_json

        write_json(args.json, document)
    if draw:
        draw()
    return 0 if success else 1
