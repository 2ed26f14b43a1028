"""Run a recorded bag through the stack again, and compare the actions with those recorded."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from spec_decode_ros.actions.prompt import PromptStyle
    from spec_decode_ros.decoding.messages import Sampling
    from spec_decode_ros.edge.runtime import EdgeRuntime
    from spec_decode_ros.models.interfaces import Drafter
    from spec_decode_ros.models.pair import PairConfig
    from spec_decode_ros.replay.bag import BagRecording
    from spec_decode_ros.replay.compare import ReplayComparison
    from spec_decode_ros.replay.moments import Moment
    from spec_decode_ros.replay.play import Played

SPEEDS = ("full", "real")
MEMORIES = ("recorded", "own")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from spec_decode_ros.actions.action import ACTION_PERIOD_S
    from spec_decode_ros.decoding.methods import METHODS

    parser.add_argument("bag", metavar="BAG", help="a rosbag2: its folder, or an .mcap or .db3 file")
    parser.add_argument(
        "--json", metavar="F", help="write the result here; - is standard output, and only it"
    )
    parser.add_argument("--plot", metavar="F", help="draw velocities and latency over time, as PNG")
    parser.add_argument(
        "--speed",
        choices=SPEEDS,
        default="full",
        help="full: every recorded decision once, on its own frame; real: frames come when they came and the newest "
        "one is decided on, as on the robot (%(default)s)",
    )
    parser.add_argument(
        "--method", choices=tuple(METHODS), default="auto", help="decoding method (%(default)s)"
    )
    parser.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
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
    asked = parser.add_argument_group("what is in the bag")
    asked.add_argument(
        "--instruction", metavar="S", help="what the robot is told, instead of what the bag says"
    )
    asked.add_argument(
        "--image-topic", metavar="T", default="", help="of the frames; found by itself if unique"
    )
    asked.add_argument("--command-topic", metavar="T", default="", help="of the operator's words")
    asked.add_argument(
        "--period",
        type=float,
        default=ACTION_PERIOD_S,
        metavar="S",
        help="seconds between decisions, where the bag has no actions and at real speed (%(default).2f)",
    )
    asked.add_argument(
        "--memory",
        choices=MEMORIES,
        default="recorded",
        help="whose last action the prompt holds at full speed: with 'recorded' a difference counts once, with 'own' "
        "it may change what follows (%(default)s)",
    )
    asked.add_argument("--temperature", type=float, default=0.0, metavar="T", help="as recorded; 0 is greedy")
    asked.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampling, as recorded")
    allowed = parser.add_argument_group("what may differ; beyond that the exit code is 1")
    allowed.add_argument(
        "--tolerance",
        type=float,
        metavar="V",
        help="velocities may differ by V m/s and rad/s; by default the texts have to be identical",
    )
    allowed.add_argument(
        "--allow", type=int, default=0, metavar="N", help="N actions may differ (%(default)s)"
    )
    allowed.add_argument(
        "--latency-tolerance",
        type=float,
        metavar="MS",
        help="the median latency may be MS longer than recorded; by default it is only reported",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if everything is within the tolerance, else 1."""
    from rich.console import Console

    from spec_decode_ros.decoding.messages import Sampling
    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.models.pair import load_pair_config
    from spec_decode_ros.replay.bag import read_recording
    from spec_decode_ros.replay.compare import Tolerance, compare
    from spec_decode_ros.replay.moments import moments_of
    from spec_decode_ros.replay.report import as_document, print_report

    if not 0 < args.period < 1e4:
        raise SpecDecodeError(f"--period is {args.period:g}: give seconds above 0")
    config = load_pair_config(args.pair)
    tolerance = Tolerance(args.tolerance, args.latency_tolerance, args.allow)
    sampling = Sampling(temperature=args.temperature, seed=args.seed)
    recording = read_recording(args.bag, image_topic=args.image_topic, command_topic=args.command_topic)
    moments = moments_of(recording, args.instruction or "", args.period)
    _require_something(recording, moments)
    played = _play(args, config, sampling, recording, moments)
    comparison = compare(
        recording, moments, played, tolerance, style=_style(config), same_prompt=args.speed == "real"
    )
    settings = {
        name: getattr(args, name) for name in ("speed", "method", "memory", "rtt_ms", "temperature", "seed")
    }
    document = as_document(recording, comparison, {"pair": config.name, **settings})
    if args.json != "-":
        title = f"{args.bag}: method {args.method}, pair {config.name}, {args.speed} speed"
        print_report(Console(highlight=False), recording, comparison, title)
    if args.plot:
        _draw(args, config, comparison)
    if args.json:
        write_json(args.json, document)
    if comparison.recorded and not comparison.compared:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in comparison.not_compared.items())
        raise SpecDecodeError(f"no recorded action of {args.bag} could be compared ({reasons})")
    return 0 if comparison.passed else 1


def _style(config: PairConfig) -> PromptStyle:
    return cast("PromptStyle", config.prompt)


def _require_something(recording: BagRecording, moments: tuple[Moment, ...]) -> None:
    if moments:
        return
    raise SpecDecodeError(
        f"nothing can be decided in {recording.path}: no frame and no action comes after its first command"
    )


def _play(
    args: argparse.Namespace,
    config: PairConfig,
    sampling: Sampling,
    recording: BagRecording,
    moments: tuple[Moment, ...],
) -> list[Played]:
    from spec_decode_ros.edge.pilot import Pilot
    from spec_decode_ros.replay.bag import read_frames
    from spec_decode_ros.replay.live import PromptKeeper, play_live
    from spec_decode_ros.replay.moments import commands_of
    from spec_decode_ros.replay.play import play

    with contextlib.ExitStack() as stack:
        runtime, drafter = _stack(stack, args, config)
        show = stack.enter_context(_progress(len(moments)))
        if args.speed == "full":
            frames = read_frames(recording, [moment.stamp for moment in moments])
            return play(
                moments,
                frames,
                runtime,
                drafter,
                style=_style(config),
                sampling=sampling,
                memory=args.memory,
                show=show,
            )
        asked = PromptKeeper(runtime)
        pilot = Pilot(asked, _style(config), sampling)
        commands = commands_of(recording, args.instruction or "")
        return play_live(commands, read_frames(recording), pilot, asked, period_s=args.period, show=show)


def _stack(
    stack: contextlib.ExitStack, args: argparse.Namespace, config: PairConfig
) -> tuple[EdgeRuntime, Drafter]:
    """Draft model, verifier process and network, as the robot would have them; all end with `stack`."""
    from spec_decode_ros.decoding.methods import method_named
    from spec_decode_ros.edge.runtime import EdgeRuntime
    from spec_decode_ros.lab.network.link import LinkProfile, link_process
    from spec_decode_ros.models.threads import be_responsive
    from spec_decode_ros.server.process import spawn_server
    from spec_decode_ros.transport.client import Client
    from spec_decode_ros.transport.keys import robot_keys

    method = method_named(args.method)
    profile = LinkProfile(rtt_ms=args.rtt_ms)
    if args.keys and not args.endpoint:
        raise SpecDecodeError("--keys is for a server that runs already; name it with --endpoint.")
    keys = robot_keys(args.keys) if args.keys else None
    client = None
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # The server's process starts while the draft model is loaded.
        loading = pool.submit(_drafter, config)
        endpoint = args.endpoint
        if method.uses_cloud and not endpoint:
            endpoint = stack.enter_context(spawn_server(args.pair))
        drafter = loading.result()
    be_responsive()
    if method.uses_cloud:
        if profile.rtt_ms:
            endpoint = stack.enter_context(link_process(endpoint, profile))
        client = stack.enter_context(Client(endpoint, config.name, drafter.vocabulary, keys=keys))
        client.wait_ready()
    # Without fallback: a comparison must not silently mix the method asked for with the draft model alone.
    runtime = EdgeRuntime(
        drafter, client, method, max_tokens=config.max_tokens, fallback=False, deadline_s=30.0
    )
    return stack.enter_context(runtime), drafter


def _drafter(config: PairConfig) -> Drafter:
    from spec_decode_ros.models.pair import load_drafter
    from spec_decode_ros.models.warmup import warm_up

    drafter = load_drafter(config)
    warm_up(drafter)
    return drafter


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on standard error; yields what is to be told of each decision."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("actions"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda played: bar.update(task, advance=1, description=played.text)


def _draw(args: argparse.Namespace, config: PairConfig, comparison: ReplayComparison) -> None:
    from spec_decode_ros.replay.plot import draw_replay

    if not comparison.recorded:
        title = f"{comparison.replayed} actions on recorded frames"
    else:
        same = comparison.compared - comparison.differences
        title = f"{same} of {comparison.compared} replayed actions are as recorded"
    subtitle = (
        f"{args.bag} · method {args.method}, pair {config.name}, RTT {args.rtt_ms:g} ms, {args.speed} speed"
    )
    path = draw_replay(comparison, args.plot, title, subtitle)
    if args.json != "-":
        print(f"plot {path}")
