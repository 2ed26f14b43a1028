"""The `spec-decode` command: imports the subcommand that is asked for, and turns errors into one sentence.

Exit codes: 0 done, 1 ran but without success (a mission or an episode that failed), 2 wrong use or
something missing, 130 interrupted.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

from spec_decode_ros import __version__, commands
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence
from spec_decode_ros.printable import printable

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

GROUPS: dict[str, tuple[str, ...]] = {
    "Try it": ("doctor", "demo", "generate", "plan", "eval", "go2-sim", "world"),
    "Robot": ("teleop", "record", "replay", "velocity"),
    "Cloud": ("serve", "keygen", "health", "replicas", "balance"),
    "Lab": (
        *("bench", "report", "simulate", "profile", "network"),
        *("faults", "soak", "chaos", "train", "train-exits", "train-draft"),
    ),
}
"""The subcommands by who uses them, in the order of a first acquaintance."""


def command_names() -> list[str]:
    """Names of the subcommands that are installed, in the order of their groups."""
    modules = (info.name for info in pkgutil.iter_modules(commands.__path__))
    found = [name.replace("_", "-") for name in modules if not name.startswith("_")]
    grouped = [name for names in GROUPS.values() for name in names]
    known = {name: rank for rank, name in enumerate(grouped)}
    return sorted(found, key=lambda name: (known.get(name, len(known)), name))


def _module(name: str) -> str:
    return f"{commands.__name__}.{name.replace('-', '_')}"


def _summary(name: str) -> str:
    """First line of a command module's docstring, read without importing (and so without its imports)."""
    spec = importlib.util.find_spec(_module(name))
    source = spec.loader.get_source(spec.name) if spec and spec.loader else None  # type: ignore[attr-defined]
    docstring = ast.get_docstring(ast.parse(source)) if source else None
    return (docstring or name).splitlines()[0].rstrip(".")


def _chosen(argv: Sequence[str], names: Sequence[str]) -> str | None:
    return next((word for word in argv if not word.startswith("-") and word in names), None)


def _overview(names: Sequence[str]) -> str:
    """One line for each subcommand, under the heading of its group."""
    grouped = {name for group in GROUPS.values() for name in group}
    groups = {**GROUPS, "Others": tuple(name for name in names if name not in grouped)}
    lines = []
    for title, members in groups.items():
        shown = [f"    {name:<12} {_summary(name)}" for name in members if name in names]
        lines += ["", f"{title}:", *shown] if shown else []
    return "\n".join([*lines, "", "spec-decode COMMAND --help says more about one command."])


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser; only the command that `argv` names has its arguments, because only that one is imported."""
    names = command_names()
    chosen = _chosen(argv, names)
    parser = argparse.ArgumentParser(
        prog="spec-decode",
        usage="spec-decode [-h] [--version] [--debug] COMMAND ...",
        description="Speculative edge-cloud decoding for robots driven by vision-language models.\n"
        + ("" if chosen else _overview(names)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spec-decode {__version__}")
    debug = "show where in the program an error comes from"
    parser.add_argument("--debug", action="store_true", help=debug)
    subparsers = parser.add_subparsers(
        prog=parser.prog, dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS
    )
    for name in names:
        # Without a help of its own a command is not listed a second time.
        subparser = subparsers.add_parser(name, description=_summary(name) + ".")
        subparser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=debug)
        if name == chosen:
            module = importlib.import_module(_module(name))
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _complain(sentence: str, debug: bool) -> int:
    """Say it on standard error, with `debug` behind the traceback of the present exception."""
    if debug:
        traceback.print_exc()
    sentence = " ".join(printable(sentence).split())
    print(f"spec-decode: {sentence}", file=sys.stderr)
    return EXIT_USAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        args = build_parser(argv).parse_args(argv)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except SpecDecodeError as error:
        return _complain(str(error), debug)
    except ModuleNotFoundError as error:
        sentence = missing_module_sentence(error.name or "")
        if sentence is None:
            raise
        return _complain(sentence, debug)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has gone (`| head`)
        return 1
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        what = f"{error.filename} cannot be used" if error.filename else "the system refuses"
        return _complain(
            f"{what} ({error.strerror or error}): look at its path, its permissions and the free space.",
            debug,
        )


def _drop_output() -> None:
    """Keep the flush at exit from complaining about what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
