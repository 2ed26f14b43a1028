"""The `spec-decode` command: finds the subcommand, imports only that one, and turns errors into one sentence.

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
from collections.abc import Sequence

from spec_decode_ros import __version__, commands
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# In the order of a first acquaintance; commands that are not named here follow in alphabetical order.
_ORDER = (
    "doctor",
    "demo",
    "generate",
    "serve",
    "keygen",
    "health",
    "replicas",
    "balance",
    "teleop",
    "eval",
    "go2-sim",
    "faults",
    "velocity",
    "record",
    "replay",
    "bench",
    "soak",
    "chaos",
    "simulate",
    "profile",
    "network",
    "report",
    "world",
    "train",
    "train-exits",
    "train-draft",
)


def command_names() -> list[str]:
    """Names of the subcommands that are installed."""
    modules = (info.name for info in pkgutil.iter_modules(commands.__path__))
    found = [name.replace("_", "-") for name in modules if not name.startswith("_")]
    known = {name: rank for rank, name in enumerate(_ORDER)}
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


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser; only the command that `argv` names has its arguments, because only that one is imported."""
    parser = argparse.ArgumentParser(
        prog="spec-decode",
        description="Speculative edge-cloud decoding for robots driven by vision-language models.",
        epilog="spec-decode COMMAND --help says more about one command.",
    )
    parser.add_argument("--version", action="version", version=f"spec-decode {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    names = command_names()
    chosen = _chosen(argv, names)
    for name in names:
        summary = _summary(name)
        subparser = subparsers.add_parser(name, help=summary, description=summary + ".")
        if name == chosen:
            module = importlib.import_module(_module(name))
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _complain(sentence: str) -> int:
    sentence = " ".join(sentence.split())
    print(f"spec-decode: {sentence}", file=sys.stderr)
    return EXIT_USAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        args = build_parser(argv).parse_args(argv)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except SpecDecodeError as error:
        return _complain(str(error))
    except ModuleNotFoundError as error:
        sentence = missing_module_sentence(error.name or "")
        if sentence is None:
            raise
        return _complain(sentence)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): keep the flush at exit from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
