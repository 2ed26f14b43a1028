"""Write BENCHMARKS.md out of the JSON documents of `bench`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.page import page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="JSON", help="what `bench --json` has written")
    parser.add_argument(
        "--out", type=Path, default=Path("BENCHMARKS.md"), metavar="F", help="the page (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    documents = []
    for path in args.files:
        try:
            documents.append(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise SpecDecodeError(f"{path} is no JSON document: {error}") from error
    try:
        text = page(documents)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise SpecDecodeError(
            f"these files are no bench documents (no {error}): write them with `bench --json`"
        ) from error
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"cannot write {args.out}: {error.strerror or error}") from error
    print(args.out)
    return 0
