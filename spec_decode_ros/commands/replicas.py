"""Serve one pair from several processes, one per GPU, at one address."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import add_number, add_patience, add_with_parent
from spec_decode_ros.commands._settings import add_settings, resolved_settings

_OFFERED = (
    *("pair", "bind", "keys", "insecure", "device", "dtype", "threads"),
    *("max_sessions", "metrics", "log_format", "log_level"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs replicas of the verifier under Ray (pip install ray), each in a process of its own and on a GPU of its own "
        "where there are any, starts them anew when they die, and lets robots connect to all of them at one address. "
        "The signal TTIN adds a replica and TTOU takes one away, whose robots move to the others first. INT and TERM end "
        "all of them when their actions are over, and a second one ends them at once."
    )
    parser.epilog = "Further settings of `spec-decode serve` can stand in the file and in the environment."
    add_number(
        parser,
        "--replicas",
        int,
        "number of replicas; by default one per GPU, or one without GPUs",
        "N",
        low=1,
    )
    add_settings(parser, _OFFERED)
    add_patience(parser)
    add_with_parent(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it was told to end."""
    from spec_decode_ros.server.fleet.replicas_process import serve_replicas
    from spec_decode_ros.server.fleet.routing import RoutingPolicy

    config = resolved_settings(args).config
    serve_replicas(config, args.replicas, RoutingPolicy(patience_s=args.patience_s), args.with_parent)
    return 0
