"""Makes, lists and revokes keys in a server's key folder, and says what is to be done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from spec_decode_ros.console import PlainConsole
from spec_decode_ros.transport.keys import make_keys, revoke, robots_of

Say = Callable[[str], None]


def make_all(folder: Path, names: Sequence[str | None], balancers: bool, say: Say) -> None:
    """Make keys for each; of the name None only where there are none at all. Raises SpecDecodeError."""
    made = False
    for name in names:
        for own in make_keys(folder, name, balancers):
            made = True
            # At once, as the next name may be refused.
            owner = "balancer" if balancers else "robot"
            say(f"new keys: copy {own} to the {owner}, then delete it here")
    if made:
        say(f"the server: spec-decode serve --bind tcp://0.0.0.0:5555 --keys {folder}")
    else:
        say(f"{folder} is complete; --robot NAME makes keys for one more robot, --list says who is let in")


def revoke_all(folder: Path, names: Sequence[str], say: Say) -> None:
    """Shut each of them out. Raises SpecDecodeError."""
    for name in names:
        revoke(folder, name)
        say(f"{name} is shut out; a server that runs with these keys notices within about a second")


def print_robots(folder: Path) -> None:
    """A table of the robots and balancers that are let in. Raises SpecDecodeError."""
    table = Table(box=None)
    table.add_column("name", overflow="fold")
    table.add_column("is a", no_wrap=True, min_width=8)
    table.add_column("public key", no_wrap=True, min_width=40)
    table.add_column("its folder", no_wrap=True)
    robots = robots_of(folder)
    for robot in robots:
        kind = "balancer" if robot.balancer else "robot"
        table.add_row(robot.name, kind, robot.key, "still here" if robot.to_copy else "copied")
    if robots:
        PlainConsole().print(table)
    else:
        print(f"nobody is let in; make keys for one with: spec-decode keygen {folder} --robot NAME")
