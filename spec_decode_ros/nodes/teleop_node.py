"""The operator's teleop: an interface in a terminal, or lines of text where there is none.

With a terminal on all of standard input, output and error it starts the interface of
:mod:`spec_decode_ros.teleop`. Without one (a pipe, a script, launch) it reads lines: an empty line is the
emergency stop, ``release`` lifts it, ``quit`` ends; a stop is sent at once, everything else as soon as all its
subscribers are found.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from spec_decode_ros.extras import missing_module_sentence
from spec_decode_ros.nodes.common import run
from spec_decode_ros.nodes.teleop_commands import TeleopNode


def has_terminal() -> bool:
    """Whether standard input, output and error are a terminal that can show more than lines."""
    terminals = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return terminals and os.environ.get("TERM", "") not in ("", "dumb")


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of the ``teleop_node`` executable."""
    if has_terminal():
        try:
            from spec_decode_ros.nodes.teleop_terminal import operate
        except ModuleNotFoundError as error:
            if error.name != "textual":
                raise
            print(f"the interface: {missing_module_sentence('textual')}; reading lines", file=sys.stderr)
        else:
            operate(args)
    run(TeleopNode, args)


if __name__ == "__main__":
    main()
