"""Simulates every method in virtual time, in cells of a grid: round-trip time, acceptance and draft speed."""

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

_END = 0

NextToken = Callable[[Sequence[int]], int]


@dataclass(frozen=True)
class Cell:
    """A network and a pair: round-trip time, acceptance per draft token, and draft time over target time per token."""

    rtt_ms: float
    acceptance: float
    ratio: float


@dataclass(frozen=True)
class World:
    """What all cells share. Times in milliseconds; an answer has `tokens` tokens.

    `second_choice_right` is the probability that the second choice for a rejected token is the target's.
    `draft_upload_ms` is the upload time of a message with drafts. `server_draft_token_ms` and `server_draft_prefill_ms` are
    the times of the draft model on the server; None: the same as on the edge. `compute_token_ms` is that of `Times`.
    `prompt_tokens` is the length of a prompt with its frame, which matters where robots share passes. `last_right` is the
    probability that a token of the last answer is right again; 0: there is no last answer.
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
        """Milliseconds of the draft model on the server, per token and for the prompt."""
        token, prefill = self.server_draft_token_ms, self.server_draft_prefill_ms
        token = cell.ratio * self.step_ms if token is None else token
        prefill = cell.ratio * self.prefill_ms if prefill is None else prefill
        return token, prefill

    def times(self, cell: Cell) -> Times:
        """Costs in seconds."""
        token_ms, prefill_ms = self.server_draft_times_ms(cell)
        return Times(
            draft_prefill=cell.ratio * self.prefill_ms / 1e3,
            draft_token=cell.ratio * self.step_ms / 1e3,
            prepare=self.prepare_ms / 1e3,
            prefill=self.prefill_ms / 1e3,
            step=self.step_ms / 1e3,
            per_token=self.per_token_ms / 1e3,
            server_draft_prefill=prefill_ms / 1e3,
            server_draft_token=token_ms / 1e3,
            compute_token=self.compute_token_ms / 1e3,
        )


@dataclass(frozen=True)
class MethodFigures:
    """Means over the actions of one method in one cell; `spread_ms` has the deciles 1 and 9 of `ttva_ms`."""

    ttva_ms: float
    spread_ms: tuple[float, float]
    passes: float
    busy_ms: float
    round_trips: float
    drafted_on_edge: float
    predictions: float
    prediction_hits: float


def _hashed(*key: object) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    # A checksum would not do: those of neighbouring keys are alike.
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _target(world: World) -> NextToken:
    """Writes a text of fixed shape."""
    return lambda text: _END if len(text) >= world.tokens - 1 else 1 + len(text) % 7


def _drafter(world: World, acceptance: float, seed: int) -> NextToken:
    """Agrees with the target with the given probability, and never after a text that is not the target's."""
    target = _target(world)

    def next_token(text: Sequence[int]) -> int:
        right = all(token == target(text[:i]) for i, token in enumerate(text))
        return target(text) if right and _hashed(seed, len(text)) < acceptance else 9

    return next_token


def _second_choice(world: World, seed: int) -> NextToken:
    """The draft model's second choice."""
    target = _target(world)
    return lambda text: target(text) if _hashed("second", seed, len(text)) < world.second_choice_right else 8


def _last_answer(world: World, seed: int) -> tuple[int, ...]:
    if not world.last_right:
        return ()
    answer = decode_alone(_target(world), {_END}, world.tokens)
    right = (_hashed("last", seed, i) < world.last_right for i in range(len(answer)))
    return tuple(token if same else 10 for token, same in zip(answer, right, strict=True))


def _exits(world: World, seed: int) -> tuple[Exit, ...]:
    """One early exit in the middle of the target."""
    target = _target(world)

    def choose(text: Sequence[int]) -> tuple[int, float]:
        token = target(text) if _hashed("right", seed, len(text)) < world.exit_right else 9
        return token, 0.95 if _hashed("sure", seed, len(text)) < world.exit_sure else 0.1

    return (Exit(world.exit_at, choose),)


def scenario(
    method: Method, cell: Cell, world: World, seed: int, server_draft_tokens: int, stale: AcceptanceAverage
) -> Scenario:
    """One action in this cell; the same seed gives the same answer and the same drafts."""
    last = _last_answer(world, seed)
    return Scenario(
        method=method,
        request=Request(1, "", images=1, max_tokens=world.tokens + 8, previous=last, resend_s=10.0),
        eos={_END},
        target=_target(world),
        drafter=_drafter(world, cell.acceptance, seed),
        link=SteadyLink(cell.rtt_ms / 1e3, world.upload_ms / 1e3, world.draft_upload_ms / 1e3),
        times=world.times(cell),
        exits=_exits(world, seed),
        server_draft_tokens=server_draft_tokens,
        second_choice=_second_choice(world, seed),
        stale_tokens=worth_verifying(stale.value, world.step_ms, world.per_token_ms),
        measured=replace(measurements(cell, world), stale_acceptance=stale.value),
    )


def simulate_method(
    method: Method, cell: Cell, world: World | None = None, actions: int = 40, server_draft_tokens: int = 4
) -> MethodFigures:
    """Decode many actions by one method in one cell."""
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
    names = ("passes", "round_trips", "drafted_on_edge", "predictions", "prediction_hits")
    means = {name: statistics.fmean(float(getattr(count, name)) for count in counts) for name in names}
    return MethodFigures(
        ttva_ms=statistics.fmean(ends),
        spread_ms=(cuts[0], cuts[-1]),
        busy_ms=statistics.fmean(busy),
        **means,
    )


def measurements(cell: Cell, world: World) -> Measurements:
    """What a robot in this cell would have measured."""
    token_ms, prefill_ms = world.server_draft_times_ms(cell)
    return Measurements(
        cell.rtt_ms,
        cell.ratio * world.step_ms,
        world.step_ms,
        cell.acceptance,
        world.per_token_ms,
        server_draft_ms=token_ms,
        server_draft_prefill_ms=prefill_ms,
        exit_accuracy=world.exit_right,
        tokens=world.tokens,
        upload_ms=world.upload_ms,
    )


def simulate_cell(cell: Cell, world: World | None = None, actions: int = 40) -> dict[str, MethodFigures]:
    """All methods that verify, in one cell, and `auto` with the cost objective as ``auto cost``.

    The server's drafts have their best length in every method.
    """
    world = world or World()
    now = measurements(cell, world)
    methods = {name: method for name, method in METHODS.items() if method.uses_cloud and not method.adapts}
    methods["auto"] = plan(METHODS["auto"], "latency", now)
    methods["auto cost"] = plan(METHODS["auto"], "cost", now)
    length = server_draft_length(now)
    return {name: simulate_method(method, cell, world, actions, length) for name, method in methods.items()}


def cells(
    rtts_ms: Iterable[float] = RTTS_MS,
    acceptances: Iterable[float] = ACCEPTANCES,
    ratios: Iterable[float] = RATIOS,
) -> Iterator[Cell]:
    """All cells of the grid."""
    for values in itertools.product(rtts_ms, acceptances, ratios):
        yield Cell(*values)
