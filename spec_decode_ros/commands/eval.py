"""Walk the simulated robot through closed-loop episodes and count how many succeed."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from spec_decode_ros.edge.runtime import EdgeRuntime
    from spec_decode_ros.lab.episodes.episode import EpisodeResult, Rules
    from spec_decode_ros.models.pair import PairConfig
    from spec_decode_ros.sim.task import Task

MEASURED = "measured"
DEFAULT_LATENCY_MS = 100.0
MAX_EPISODES = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from spec_decode_ros.decoding.controller import OBJECTIVES
    from spec_decode_ros.decoding.methods import METHODS

    parser.add_argument(
        "--method", choices=tuple(METHODS), default="auto", help="decoding method (default %(default)s)"
    )
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="latency", help="what auto aims at (default %(default)s)"
    )
    parser.add_argument(
        "--pair", default="tiny", help="model pair, by name or as a .yaml file (default %(default)s)"
    )
    parser.add_argument(
        "--episodes", type=_episodes, default=20, metavar="N", help="how many (default %(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="S",
        help="of the first episode; the next ones count on from it",
    )
    parser.add_argument(
        "--instructions",
        metavar="FILE",
        help="phrasings, one a line, {color} and {kind} stand for the target's; by default the project's own variety",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL[,URL]",
        help="a verifier that runs already, or several of which the first that answers is used; by default one is started",
    )
    parser.add_argument(
        "--rtt-ms", type=_not_negative, default=0.0, metavar="R", help="emulate a network in between"
    )
    parser.add_argument(
        "--latency-ms",
        type=_latency,
        default=None,
        metavar="L",
        help=(
            "simulated time from a frame to its action taking effect: a number, which makes a run repeatable, or "
            f"'{MEASURED}', the time that each decision really took (default {DEFAULT_LATENCY_MS:g} plus the RTT)"
        ),
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the result here; - is standard output, and only it"
    )


def _episodes(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_EPISODES:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {MAX_EPISODES}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1e5:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 100000")
    return value


def _latency(text: str) -> float | str:
    return MEASURED if text == MEASURED else _not_negative(text)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when at least one episode succeeded, else 1."""
    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.episodes.episode import Rules
    from spec_decode_ros.models.pair import load_pair_config
    from spec_decode_ros.sim.task import make_task, read_templates

    config = load_pair_config(args.pair)
    templates = read_templates(_read(args.instructions)) if args.instructions else ()
    latency_ms = DEFAULT_LATENCY_MS + args.rtt_ms if args.latency_ms is None else args.latency_ms
    rules = Rules() if latency_ms == MEASURED else Rules(latency_s=latency_ms / 1000.0)
    tasks = (make_task(args.seed + i, templates) for i in range(args.episodes))
    with contextlib.ExitStack() as stack:
        policy = DecodingPolicy(_runtime(stack, args, config), config.prompt)
        latency = (lambda: policy.last_s) if latency_ms == MEASURED else None
        show = stack.enter_context(_progress(args.episodes))
        results = evaluate(tasks, policy, rules, latency, show)
    document = report(results, policy.stats, policy.unverified)
    document = {
        "pair": config.name,
        "method": args.method,
        "seed": args.seed,
        "rtt_ms": args.rtt_ms,
        "latency_ms": latency_ms,
        **document,
    }
    if args.json != "-":
        _print(document)
    if args.json:
        write_json(args.json, document)
    return 0 if document["successes"] else 1


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecDecodeError(f"cannot read the instructions in {path}: {reason or error}") from error


def _runtime(stack: contextlib.ExitStack, args: argparse.Namespace, config: PairConfig) -> EdgeRuntime:
    """Draft model, verifier process and network, as the robot would have them; all end with `stack`."""
    from spec_decode_ros.decoding.methods import method_named
    from spec_decode_ros.edge.runtime import EdgeRuntime
    from spec_decode_ros.lab.network.link import LinkProfile, link_process
    from spec_decode_ros.models.pair import load_drafter
    from spec_decode_ros.models.threads import be_responsive
    from spec_decode_ros.models.warmup import warm_up
    from spec_decode_ros.server.process import spawn_server
    from spec_decode_ros.transport.client import Client

    method = method_named(args.method)
    client = None
    drafter = load_drafter(config)
    warm_up(drafter)
    be_responsive()
    if method.uses_cloud:
        endpoint = args.endpoint or stack.enter_context(spawn_server(args.pair))
        if args.rtt_ms:
            endpoint = stack.enter_context(link_process(endpoint, LinkProfile(rtt_ms=args.rtt_ms)))
        client = stack.enter_context(Client(endpoint, config.name, drafter.vocabulary))
        client.wait_ready()
    # Without fallback: a success rate must not silently mix the method asked for with the draft model alone.
    return stack.enter_context(
        EdgeRuntime(
            drafter,
            client,
            method,
            max_tokens=config.max_tokens,
            fallback=False,
            deadline_s=30.0,
            objective=args.objective,
        )
    )


class DecodingPolicy:
    """What the robot's software does with a frame: prompt, decode, remember the answer for the next prompt.

    Args:
        runtime: decodes.
        style: of the prompt, as the pair says.
    """

    def __init__(self, runtime: EdgeRuntime, style: str) -> None:
        self._runtime = runtime
        self._style = style
        self._last_tokens: tuple[int, ...] = ()
        self.stats: list[dict[str, Any]] = []
        self.unverified = 0
        self.last_s = 0.0

    def __call__(self, jpeg: bytes, instruction: str, last_action: str | None) -> str:
        from spec_decode_ros.actions.prompt import build_prompt

        prompt = build_prompt(instruction, last_action, self._style)  # type: ignore[arg-type]
        draft = self._last_tokens if last_action is not None else ()
        result = self._runtime.act(prompt, [jpeg], draft)
        self._last_tokens = result.tokens
        self.stats.append(dict(result.stats))
        self.unverified += not result.verified
        total = result.stats["total_ms"]
        self.last_s = float(total or 0.0) / 1000.0
        return result.text


def evaluate(
    tasks: Iterable[Task],
    policy: Callable[[bytes, str, str | None], str],
    rules: Rules,
    latency: Callable[[], float] | None = None,
    show: Callable[[EpisodeResult], None] = lambda result: None,
) -> list[EpisodeResult]:
    """Run the tasks one after the other; `show` is told of each result at once."""
    from spec_decode_ros.lab.episodes.episode import run_episode

    results = []
    for task in tasks:
        results.append(run_episode(task, policy, rules, latency))
        show(results[-1])
    return results


def report(
    results: Sequence[EpisodeResult], stats: Sequence[dict[str, Any]] = (), unverified: int = 0
) -> dict[str, Any]:
    """The result of an evaluation as plain values, for JSON."""
    successes = sum(result.success for result in results)
    seen = {name: [s[name] for s in stats if s.get(name) is not None] for name in METRICS}
    return {
        "episodes": len(results),
        "successes": successes,
        "success_rate": successes / len(results) if results else 0.0,
        "reasons": dict(Counter(result.reason for result in results).most_common()),
        "decisions": sum(result.decisions for result in results),
        "unverified_actions": unverified,
        "median_time": _median([result.time for result in results if result.success]),
        "medians": {name: _median(values) for name, values in seen.items()},
        "spread": {name: _spread(values) for name, values in seen.items()},
        "rows": [result.as_row() for result in results],
    }


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _spread(values: Sequence[float]) -> list[float] | None:
    """Tenth and ninetieth percentile."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return [round(cuts[0], 4), round(cuts[-1], 4)]


@contextlib.contextmanager
def _progress(total: int) -> Any:
    """A bar on standard error; yields what is to be told of each result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=total)
        reached = 0

        def show(result: EpisodeResult) -> None:
            nonlocal reached
            reached += result.success
            bar.update(task, advance=1, description=f"{reached} reached")

        yield show


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 1))
    for name, justify in (("seed", "right"), ("instruction", "left"), ("target", "left"), ("result", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("seconds", justify="right")
    table.add_column("metres", justify="right")
    for row in document["rows"]:
        # As plain text: a user's phrasing may hold what looks like markup.
        table.add_row(
            str(row["seed"]),
            Text(row["instruction"]),
            row["target"],
            Text(row["reason"], style="green" if row["success"] else "red"),
            f"{row['time']:.1f}",
            f"{row['path_length']:.1f}",
        )
    console.print(table)
    console.print(
        f"success_rate {document['success_rate']:.2f} ({document['successes']} of {document['episodes']}), "
        f"method {document['method']}, pair {document['pair']}, RTT {document['rtt_ms']:g} ms"
    )
    medians = ((name, value) for name, value in document["medians"].items() if value is not None)
    console.print(
        "  ".join(f"{name} {value:.2f}" if value < 10 else f"{name} {value:.0f}" for name, value in medians)
    )
