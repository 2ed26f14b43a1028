"""A network in user space: delays what a client and a server say to each other.

The relay sits between a :class:`~spec_decode_ros.transport.client.Client` and a server and forwards every ZeroMQ
message after half the round-trip time, plus the time its bytes take on a line of the given bandwidth. No kernel
support and no privileges are needed. Timing is kept by ``select`` with microseconds, which the operating system
honours to about 0.1 ms; ZeroMQ's own poller counts in whole milliseconds.

Run it in its own process (:func:`link_process`) when anything is measured: a relay thread would share the
interpreter lock with the models.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields

import zmq

from spec_decode_ros.lab.network.link_profile import LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFaults
from spec_decode_ros.lab.network.relay import Relay, unhurried
from spec_decode_ros.transport.client import parse_endpoints
from spec_decode_ros.transport.process import ReadyChild


class EmulatedLink:
    """The relay as a thread of this process; see the module's text for when to prefer :func:`link_process`."""

    def __init__(
        self,
        target: str,
        profile: LinkProfile,
        bind: str = "tcp://127.0.0.1:*",
        mischief: MessageFaults | None = None,
    ) -> None:
        self._target = target
        self._profile = profile
        self._mischief = mischief
        self._bind = bind
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread: threading.Thread | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind and begin to relay; returns the endpoint that the client connects to."""
        front: zmq.Socket = zmq.Context.instance().socket(zmq.ROUTER)
        unhurried(front)
        front.setsockopt(zmq.ROUTER_MANDATORY, 1)
        front.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a robot that reconnects is the same robot
        front.bind(self._bind)
        self.endpoint = front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, args=(front,), name="link", daemon=True)
        self._thread.start()
        return self.endpoint

    def stop(self) -> None:
        """End the relay; what is under way is lost."""
        self._stop.set()
        with suppress(OSError):  # the thread has ended already
            self._wake_in.send(b"x")
        if self._thread:
            self._thread.join(timeout=5.0)
            self._thread = None
        self._wake_in.close()

    def cut(self) -> None:
        """Lose every message from now on, as when the radio link is gone."""
        self._cut.set()

    def mend(self) -> None:
        """End what :meth:`cut` began."""
        self._cut.clear()

    def __enter__(self) -> EmulatedLink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, front: zmq.Socket) -> None:
        relay = Relay(front, self._target, self._profile, self._cut.is_set, self._mischief)
        try:
            while not self._stop.is_set():
                relay.step(self._wake_out)
        finally:
            relay.close()
            self._wake_out.close()


def link_child(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> ReadyChild:
    """The relay as a process of its own that is still to be started."""
    command = [sys.executable, "-m", __name__, target]
    for name, value in asdict(profile).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return ReadyChild(command, "the link emulation", timeout_s)


@contextmanager
def link_process(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> Iterator[str]:
    """Run the relay in a process of its own and yield the endpoint that the client connects to.

    Several targets by commas have a relay each.
    """
    with ExitStack() as stack:
        endpoints: list[str] = []
        for each in parse_endpoints(target):
            child = link_child(each, profile, timeout_s)
            stack.callback(child.stop)
            endpoints.append(child.start())
        yield ",".join(endpoints)


def main(arguments: list[str] | None = None) -> int:
    """Relay until standard input ends; prints one line with the endpoint when ready."""
    parser = argparse.ArgumentParser(description="Relay between a robot and its verifier with delay.")
    parser.add_argument("target", help="endpoint of the verifier")
    for field in fields(LinkProfile):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = vars(parser.parse_args(arguments))
    target = options.pop("target")
    with EmulatedLink(target, LinkProfile(**options)) as link:
        print(f"ready {link.endpoint}", flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
