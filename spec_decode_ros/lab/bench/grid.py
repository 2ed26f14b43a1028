"""Every method over a grid of networks and models, in virtual time."""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.commands import Done
from spec_decode_ros.decoding.controller import Measurements, plan, server_draft_length, worth_verifying
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.testing import Exit, Scenario, SteadyLink, Times, VirtualAction, decode_alone

RTTS_MS = (5.0, 20.0, 60.0, 120.0, 250.0)
ACCEPTANCES = (0.5, 0.7, 0.8, 0.9, 0.97)
RATIOS = (0.05, 0.1, 0.25)
"""Draft time over target time, a token."""

END = 0


@dataclass(frozen=True)
class Cell:
    """One network and pair: round-trip time, acceptance a drafted token, draft over target time."""

    rtt_ms: float
    acceptance: float
    ratio: float


@dataclass(frozen=True)
class World:
    """What all cells share. Times in milliseconds; an answer has `tokens` tokens.

    `second_choice_right` is the chance that a rejected token's second choice is the target's.
    `draft_upload_ms` is what a message with drafts takes on the uplink by itself. `server_draft_token_ms` and
    `server_draft_prefill_ms` are those of the draft model on the server; None: it is as fast there as on the edge.
    `compute_token_ms` is that of
    `Times`, and `prompt_tokens` the length of a prompt with its frame, which only matters where robots share passes.
    `last_right` is the share of its tokens in which the last answer is right again; with 0 there is no last answer.
    """

    tokens: int = 16
    prefill_ms: float = 100.0
    step_ms: float = 40.0
    per_token_ms: float = 0.5
    prepare_ms: float = 5.0
    draft_upload_ms: float = 0.0
    upload_ms: float = 8.0
    exit_at: float = 0.5
    exit_sure: float = 0.8
    exit_right: float = 0.95
    second_choice_right: float = 0.17
    server_draft_token_ms: float | None = None
    server_draft_prefill_ms: float | None = None
    compute_token_ms: float = 0.0
    prompt_tokens: int = 200
    last_right: float = 0.0

    def server_draft_times_ms(self, cell: Cell) -> tuple[float, float]:
        """A token and the prompt of the draft model on the server, in milliseconds."""
        token = (
            cell.ratio * self.step_ms if self.server_draft_token_ms is None else self.server_draft_token_ms
        )
        prefill = (
            cell.ratio * self.prefill_ms
            if self.server_draft_prefill_ms is None
            else self.server_draft_prefill_ms
        )
        return token, prefill

    def times(self, cell: Cell) -> Times:
        """Costs in seconds."""
        server_draft_token_ms, server_draft_prefill_ms = self.server_draft_times_ms(cell)
        return Times(
            draft_prefill=cell.ratio * self.prefill_ms / 1e3,
            draft_token=cell.ratio * self.step_ms / 1e3,
            prepare=self.prepare_ms / 1e3,
            prefill=self.prefill_ms / 1e3,
            step=self.step_ms / 1e3,
            per_token=self.per_token_ms / 1e3,
            server_draft_prefill=server_draft_prefill_ms / 1e3,
            server_draft_token=server_draft_token_ms / 1e3,
            compute_token=self.compute_token_ms / 1e3,
        )


@dataclass(frozen=True)
class Figures:
    """Of one method in one cell, means over actions: milliseconds to the verified action, passes, milliseconds busy."""

    ttva_ms: float
    spread_ms: tuple[float, float]
    passes: float
    busy_ms: float
    round_trips: float
    drafted_on_edge: float
    predictions: float
    prediction_hits: float


def chance(*key: object) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    # A checksum would not do: those of neighbouring keys are alike.
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def target(world: World) -> Callable[[Sequence[int]], int]:
    """A text of fixed shape."""
    return lambda text: END if len(text) >= world.tokens - 1 else 1 + len(text) % 7


def drafter(world: World, acceptance: float, seed: int) -> Callable[[Sequence[int]], int]:
    """Says what the target says with the given chance, as long as what it continues is the target's text."""
    truth = target(world)

    def say(text: Sequence[int]) -> int:
        right = all(token == truth(text[:i]) for i, token in enumerate(text))
        return truth(text) if right and chance(seed, len(text)) < acceptance else 9

    return say


def last_answer(world: World, seed: int) -> tuple[int, ...]:
    """What the target said of the frame before."""
    if not world.last_right:
        return ()
    truth = decode_alone(target(world), {END}, world.tokens)
    return tuple(token if chance("last", seed, i) < world.last_right else 10 for i, token in enumerate(truth))


def exits(world: World, seed: int) -> tuple[Exit, ...]:
    """One early exit in the middle of the target."""
    truth = target(world)

    def choose(text: Sequence[int]) -> tuple[int, float]:
        token = truth(text) if chance("right", seed, len(text)) < world.exit_right else 9
        return token, 0.95 if chance("sure", seed, len(text)) < world.exit_sure else 0.1

    return (Exit(world.exit_at, choose),)


def second_choice(world: World, seed: int) -> Callable[[Sequence[int]], int]:
    """The draft model's second choice: the target's with the given chance, where the first is not."""
    truth = target(world)
    return lambda text: truth(text) if chance("second", seed, len(text)) < world.second_choice_right else 8


def scenario(
    method: Method, cell: Cell, world: World, seed: int, server_draft_tokens: int, stale: AcceptanceAverage
) -> Scenario:
    """One action in this cell; the same seed is the same answer and the same drafts."""
    request = Request(
        1,
        "",
        images=1,
        max_tokens=world.tokens + 8,
        previous=last_answer(world, seed),
        resend_s=10.0,
    )
    return Scenario(
        method=method,
        request=request,
        eos={END},
        target=target(world),
        drafter=drafter(world, cell.acceptance, seed),
        link=SteadyLink(cell.rtt_ms / 1e3, world.upload_ms / 1e3, world.draft_upload_ms / 1e3),
        times=world.times(cell),
        exits=exits(world, seed),
        server_draft_tokens=server_draft_tokens,
        second_choice=second_choice(world, seed),
        stale_tokens=worth_verifying(stale.value, world.step_ms, world.per_token_ms),
        measured=replace(measurements(cell, world), stale_acceptance=stale.value),
    )


def figures(
    method: Method, cell: Cell, world: World | None = None, actions: int = 40, server_draft_tokens: int = 4
) -> Figures:
    """Decode many actions with one method in one cell."""
    world = world or World()
    ends, busy, counts = [], [], []
    stale = AcceptanceAverage(0.5)
    for seed in range(actions):
        action = VirtualAction(scenario(method, cell, world, seed, server_draft_tokens, stale))
        outcome = action.run()
        if action.cloud is not None:
            stale.observe(*action.cloud.stale_judged)
        assert isinstance(outcome.ending, Done)
        ends.append(outcome.at * 1e3)
        busy.append(outcome.cloud_busy * 1e3)
        counts.append(outcome.ending.counts)
    cuts = statistics.quantiles(ends, n=10, method="inclusive")

    def mean(name: str) -> float:
        return statistics.fmean(float(getattr(count, name)) for count in counts)

    return Figures(
        ttva_ms=statistics.fmean(ends),
        spread_ms=(cuts[0], cuts[-1]),
        passes=mean("passes"),
        busy_ms=statistics.fmean(busy),
        round_trips=mean("round_trips"),
        drafted_on_edge=mean("drafted_on_edge"),
        predictions=mean("predictions"),
        prediction_hits=mean("prediction_hits"),
    )


def measurements(cell: Cell, world: World) -> Measurements:
    """What a robot in this cell would have measured."""
    server_draft_ms, server_draft_prefill_ms = world.server_draft_times_ms(cell)
    return Measurements(
        cell.rtt_ms,
        cell.ratio * world.step_ms,
        world.step_ms,
        cell.acceptance,
        world.per_token_ms,
        server_draft_ms=server_draft_ms,
        server_draft_prefill_ms=server_draft_prefill_ms,
        exit_accuracy=world.exit_right,
        tokens=world.tokens,
        upload_ms=world.upload_ms,
    )


def compare(cell: Cell, world: World | None = None, actions: int = 40) -> dict[str, Figures]:
    """Every method that verifies, in one cell, and `auto` with the cost objective as ``auto cost``.

    The server's own drafts have their best length in every method.
    """
    world = world or World()
    now = measurements(cell, world)
    methods = {name: method for name, method in METHODS.items() if method.uses_cloud and not method.adapts}
    methods["auto"] = plan(METHODS["auto"], "latency", now)
    methods["auto cost"] = plan(METHODS["auto"], "cost", now)
    length = server_draft_length(now)
    return {name: figures(method, cell, world, actions, length) for name, method in methods.items()}


def cells(
    rtts_ms: Iterable[float] = RTTS_MS,
    acceptances: Iterable[float] = ACCEPTANCES,
    ratios: Iterable[float] = RATIOS,
) -> Iterator[Cell]:
    """The grid."""
    for values in itertools.product(rtts_ms, acceptances, ratios):
        yield Cell(*values)
