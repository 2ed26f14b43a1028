"""Ask a verifier service on this machine whether it is well."""

from __future__ import annotations

import argparse
import sys

from spec_decode_ros.commands._options import add_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "The exit code is 0 if it is well, else 1."
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="address such as http://127.0.0.1:9464; by default that of the setting `metrics`",
    )
    parser.add_argument("--config", metavar="FILE", help="settings file of the service")
    parser.add_argument("--ready", action="store_true", help="ask whether robots should be sent there now")
    add_value(parser, "--timeout-s", 5.0, "seconds to wait for an answer", "X")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 or 1 whatever happens: a container runtime knows no other."""
    from spec_decode_ros.printable import printable
    from spec_decode_ros.server.health_check import ask_health

    answer = ask_health(args.url, args.config, args.ready, args.timeout_s)
    if answer.reached:
        print(printable(answer.line))
    else:
        print(f"spec-decode: no answer: {printable(answer.line)}", file=sys.stderr)
    return 0 if answer.ok else 1
