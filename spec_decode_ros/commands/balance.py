"""Give robots one address in front of verifiers on several machines."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_patience, add_with_parent
from spec_decode_ros.commands._settings import add_settings, resolved_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Robots connect here; each of them is served by one of the verifiers, the same one as long as that answers. "
        "When it does not, its robots go on at the others, with the tokens that they have."
    )
    parser.add_argument(
        "verifiers",
        nargs="*",
        metavar="URL",
        help="verifiers, such as tcp://10.0.0.6:5555 (spec-decode serve)",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="file of further verifiers, one per line; read again on SIGHUP",
    )
    add_settings(parser, ("bind", "keys", "insecure", "metrics", "log_format", "log_level"))
    parser.add_argument(
        "--verifier-keys",
        metavar="DIR",
        help="this balancer's keys for verifiers that ask for keys, made there by `spec-decode keygen --balancer`",
    )
    parser.add_argument(
        "--target-fingerprint",
        default="",
        metavar="ID",
        help="target weights that the verifiers must have, as `spec-decode serve` prints them; by default those of the "
        "first one that answers; any for no matter which",
    )
    add_patience(parser)
    add_with_parent(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it was told to end."""
    from spec_decode_ros.server.fleet.balancer_process import VerifierList, balance
    from spec_decode_ros.server.fleet.routing import RoutingPolicy

    config = resolved_settings(args).config
    verifiers = VerifierList(args.verifiers, args.list)
    policy = RoutingPolicy(patience_s=args.patience_s, target_fingerprint=args.target_fingerprint)
    balance(config, verifiers, policy, args.verifier_keys, args.with_parent)
    return 0
