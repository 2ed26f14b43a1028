"""Serve the target model of a pair to robots, without ROS."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import DEFAULT_PAIR, load_pair_config, load_verifier
from spec_decode_ros.runtime.cloud import VerifierServer
from spec_decode_ros.runtime.colocated import own_drafter
from spec_decode_ros.runtime.threads import be_responsive
from spec_decode_ros.runtime.warmup import warm_up
from spec_decode_ros.transport.keys import ServerKeys, make_keys, server_keys
from spec_decode_ros.transport.process import READY
from spec_decode_ros.transport.server import LOOPBACK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pair", default=DEFAULT_PAIR, help="model pair, by name or as a .yaml file (%(default)s)"
    )
    parser.add_argument(
        "--bind",
        default=LOOPBACK,
        metavar="URL",
        help="where to listen, such as tcp://0.0.0.0:5555; by default a free port that only this machine reaches",
    )
    parser.add_argument(
        "--keys",
        metavar="DIR",
        help="let in only robots with keys, and encrypt; the keys are made in DIR on first use",
    )
    parser.add_argument("--new-robot", metavar="NAME", help="with --keys: make keys for one more robot")
    parser.add_argument("--device", help="auto, cpu, mps, cuda or cuda:N; by default what the pair says")
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), help="precision of the target"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of the target; 0 leaves the choice to torch")
    parser.add_argument(
        "--tree-nodes",
        type=int,
        default=0,
        metavar="N",
        help="verify up to N tokens of drafts that disagree beside the best one, as a tree; 0, the default, never",
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input closes, as a child process should"
    )


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if args.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if args.tree_nodes < 0:
        raise SpecDecodeError("--tree-nodes counts tokens: give 0 or more")
    keys = _keys(args.keys, args.new_robot)
    config = load_pair_config(args.pair)
    if args.dtype:
        config = replace(config, target=replace(config.target, dtype=args.dtype))
    verifier = load_verifier(config, args.device, args.threads)
    pace = warm_up(verifier)
    own = own_drafter(config, verifier, pace, args.device, args.threads)
    be_responsive()
    stop = threading.Event()
    server = VerifierServer(
        verifier, config.name, args.bind, own=own, pace=pace, nodes=args.tree_nodes, keys=keys
    )
    with _set_by_signals(stop), server:
        print(
            f"serving the pair {config.name} at {server.endpoint}; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        print(f"{READY}{server.endpoint}", flush=True)
        while not stop.wait(1.0):
            pass
    return 0


def _keys(folder: str | None, new_robot: str | None) -> ServerKeys | None:
    if folder is None:
        if new_robot:
            raise SpecDecodeError("--new-robot makes keys; name their folder with --keys DIR.")
        return None
    for made in make_keys(folder, new_robot):
        print(f"new keys: copy {made} to the robot, then delete it here", file=sys.stderr, flush=True)
    return server_keys(folder)


@contextlib.contextmanager
def _set_by_signals(stop: threading.Event) -> Iterator[None]:
    """Interruption and termination set `stop`, so that the server can close its doors first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
