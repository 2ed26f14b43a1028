"""The options that say how tokens are chosen, the same for every command that has them."""

from __future__ import annotations

import argparse

from spec_decode_ros.decoding.messages import SAMPLERS, Sampler, Sampling


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """`--temperature`, `--top-k`, `--top-p` and `--sampler`; a seed is the command's own."""
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0, the default, is greedy"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="sample among the K likeliest; 0 is off"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="sample within this mass; 1 is off"
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default=Sampler.GUMBEL.value,
        help="the target's own tokens for a seed (gumbel) or its distribution (rejection, which needs a new seed for "
        "every action); %(default)s",
    )


def sampling_of(args: argparse.Namespace, seed: int) -> Sampling:
    """What the options say. Raises SpecDecodeError if a value makes no sense."""
    return Sampling(args.temperature, args.top_k, args.top_p, seed, args.sampler)
