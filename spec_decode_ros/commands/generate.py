"""Decode one action from one frame and one instruction, through a real verifier."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.commands._sampling import add_sampling_arguments, sampling_of
from spec_decode_ros.decoding.controller import OBJECTIVES
from spec_decode_ros.decoding.methods import METHODS, method_named
from spec_decode_ros.edge.runtime import ActionResult, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import (
    DEFAULT_PAIR,
    PairConfig,
    load_drafter,
    load_pair_config,
    resolve_location,
)
from spec_decode_ros.models.threads import be_responsive
from spec_decode_ros.models.warmup import warm_up
from spec_decode_ros.server.process import spawn_server
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.keys import robot_keys

_JPEG = b"\xff\xd8\xff"
_SHOWN = ("ttfa_ms", "ttft_ms", "ttva_ms", "acceptance_rate", "round_trips", "cloud_passes", "cloud_busy_ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--instruction", metavar="S", help="what the robot is told, such as 'go to the red chair'"
    )
    asked.add_argument("--prompt", metavar="S", help="any text instead, for a pair of text models")
    parser.add_argument(
        "--image", metavar="F", action="append", default=[], help="the camera frame, a picture file"
    )
    parser.add_argument(
        "--last-action", metavar="S", help="text of the last verified action, part of the next prompt"
    )
    parser.add_argument(
        "--pair", default=DEFAULT_PAIR, help="model pair, by name or as a .yaml file (%(default)s)"
    )
    parser.add_argument(
        "--method", choices=tuple(METHODS), default="auto", help="decoding method (%(default)s)"
    )
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="latency", help="what auto aims at (%(default)s)"
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer; by default what the pair says"
    )
    add_sampling_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampling")
    parser.add_argument(
        "--endpoint",
        metavar="URL[,URL]",
        help="a verifier that runs already, or several of which the first that answers is used; by default one is started",
    )
    parser.add_argument(
        "--keys", metavar="DIR", help="this robot's keys, where the server at --endpoint wants them"
    )
    parser.add_argument(
        "--rtt-ms", type=float, default=0.0, metavar="R", help="put an emulated network in between"
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds for the action (%(default)g)"
    )
    parser.add_argument(
        "--json", metavar="F", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    method = method_named(args.method)
    sampling = sampling_of(args, args.seed)
    images = [read_jpeg(path) for path in args.image]
    config = load_pair_config(args.pair)
    resolve_location(config.draft, config.folder)  # fails at once, where loading would take seconds first
    if method.uses_cloud and not args.endpoint:
        resolve_location(config.target, config.folder)
    if args.instruction is not None and not images:
        raise SpecDecodeError(
            "An instruction needs the frame that it is about: add --image FILE, or use --prompt."
        )
    if args.keys and not args.endpoint:
        raise SpecDecodeError("--keys is for a server that runs already; name it with --endpoint.")
    keys = robot_keys(args.keys) if args.keys else None
    profile = LinkProfile(rtt_ms=args.rtt_ms)
    with contextlib.ExitStack() as stack:
        endpoint, drafter = _both_sides(stack, args, config, method.uses_cloud)
        be_responsive()
        client = None
        if endpoint:
            if profile.rtt_ms:
                endpoint = stack.enter_context(link_process(endpoint, profile))
            client = stack.enter_context(Client(endpoint, config.name, drafter.vocabulary, keys=keys))
            client.wait_ready()
        runtime = stack.enter_context(
            EdgeRuntime(
                drafter,
                client,
                method,
                deadline_s=args.timeout,
                max_tokens=args.max_tokens or config.max_tokens,
                fallback=False,
                objective=args.objective,
            )
        )
        prompt = args.prompt
        if prompt is None:
            prompt = build_prompt(args.instruction, args.last_action, cast(PromptStyle, config.prompt))
        result = runtime.act(prompt, images, _last_tokens(drafter, args.last_action), sampling=sampling)
    document = _document(args, config, prompt, result)
    if args.json != "-":
        _print(document)
    if args.json:
        write_json(args.json, document)
    return 0


def read_jpeg(path: str | Path) -> bytes:
    """The file's bytes if it is a JPEG; any other picture is converted.

    Raises:
        SpecDecodeError: if it can't be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SpecDecodeError(f"The image {path} can't be read: {error.strerror or error}.") from error
    if data.startswith(_JPEG):
        return data
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture, io.BytesIO() as out:
            picture.convert("RGB").save(out, "JPEG", quality=95)
            return out.getvalue()
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise SpecDecodeError(
            f"The image {path} is not a picture that can be read; give a JPEG or PNG."
        ) from error


def _both_sides(
    stack: contextlib.ExitStack, args: argparse.Namespace, config: PairConfig, uses_cloud: bool
) -> tuple[str, Drafter]:
    """The verifier's endpoint (empty if none is needed) and the draft model, loaded at the same time."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load_drafter, config)
        endpoint = args.endpoint or "" if uses_cloud else ""
        if uses_cloud and not endpoint:
            endpoint = stack.enter_context(spawn_server(args.pair))
        return endpoint, loading.result()


def _load_drafter(config: PairConfig) -> Drafter:
    drafter = load_drafter(config)
    warm_up(drafter)
    return drafter


def _last_tokens(drafter: Drafter, last_action: str | None) -> list[int]:
    """The last action's tokens with the end token, as a model would have written them."""
    return [*drafter.encode(last_action), min(drafter.eos_ids)] if last_action else []


def _document(
    args: argparse.Namespace, config: PairConfig, prompt: str, result: ActionResult
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "tokens": list(result.tokens),
        "text": result.text,
        "action": None,
        "verified": result.verified,
        "stats": result.stats,
        "outcomes": list(result.outcomes),
        "timeline": [list(span) for span in result.timeline],
        "pair": config.name,
        "method": args.method,
        "prompt": prompt,
    }
    if args.instruction is not None:
        try:
            action = parse_action(result.text)
        except ActionError as error:
            document["action_error"] = str(error)
        else:
            posture = action.posture
            document["action"] = {"vx": action.vx, "wz": action.wz, "note": action.note, "posture": posture}
    return document


def _print(document: dict[str, Any]) -> None:
    print(document["text"])
    if "action_error" in document:
        print(f"no action: {document['action_error']}", file=sys.stderr)
    verdict = "verified by the target" if document["verified"] else "the draft alone, unverified"
    print(f"{len(document['tokens'])} tokens, {verdict}, method {document['method']}")
    print("  ".join(_numbers(document["stats"])))


def _numbers(stats: dict[str, Any]) -> Iterator[str]:
    for name in _SHOWN:
        value = stats[name]
        if value is not None:
            yield f"{name} {value:.2f}" if name == "acceptance_rate" else f"{name} {value:.0f}"
