"""Fleet planning: the queue against the state machines message by message, and the arithmetic around it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_server import serve

from spec_decode_ros.decoding.testing import Times
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.grid import Cell, World, simulate_method
from spec_decode_ros.lab.bench.profile.profile import load_profile
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.lab.planning.library import VARIANTS, Library, LibraryAction
from spec_decode_ros.lab.planning.queue import Gpu, PlannedServer, Served
from spec_decode_ros.lab.planning.regions import Fleet, Region, fleet_names, load_fleet
from spec_decode_ros.lab.planning.site import LatencyGoal, SimulationSettings, Site, Sticky, loads

PROFILE = load_profile("fleet-h100")
RATIO = PROFILE.draft_ms / PROFILE.world.step_ms
CELL = Cell(60.0, 0.8, RATIO)

CROWDED = World(
    tokens=10,
    prefill_ms=20.0,
    step_ms=5.0,
    per_token_ms=0.4,
    prepare_ms=2.0,
    prompt_tokens=150,
    server_draft_token_ms=1.0,
)
"""Prompts that do not fit into one pass: a budget of 100 tokens."""


# ---- what a pass costs -------------------------------------------------------------------------------------


def test_a_pass_of_one_is_what_an_action_alone_pays() -> None:
    times = Times(prefill=0.02, step=0.01, per_token=0.001)
    assert times.target_pass(False, 3) == pytest.approx(0.013)
    assert times.target_pass(True, 3) == pytest.approx(0.023)


def test_weights_are_read_once_for_all_and_arithmetic_adds_up() -> None:
    times = Times(prefill=0.03, step=0.01, per_token=0.0, compute_token=0.001)
    assert times.shared_pass(8, 0) == pytest.approx(0.01)  # memory-bound
    assert times.shared_pass(40, 0) == pytest.approx(0.04)  # bound by arithmetic
    assert times.shared_pass(2, 2) == pytest.approx(0.06)  # two prompts cost twice one
    assert times.shared_pass(0, 0.1) == pytest.approx(0.01)  # a piece of a prompt hides behind the weights


# ---- traces ------------------------------------------------------------------------------------------------


def test_the_cloud_alone_says_token_by_token_and_never_waits() -> None:
    (action,) = Library(MethodVariant("cloud"), CELL, PROFILE.world).picks()
    trace = action.trace()
    assert [visit.draft for visit in trace.visits] == [0] * PROFILE.world.tokens
    assert {visit.gap_s for visit in trace.visits} == {0.0}
    assert (trace.arrive_s + trace.tail_s) * 1e3 == pytest.approx(60.0 + PROFILE.world.upload_ms)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_a_robot_alone_is_as_fast_as_its_actions_are_without_a_queue(variant: MethodVariant) -> None:
    library = Library(variant, CELL, PROFILE.world, size=24)
    alone = simulate_method(library.method, CELL, PROFILE.world, 24, library.server_draft_tokens).ttva_ms
    served = Gpu(PlannedServer.of(CELL, PROFILE.world), library, 1, 0.1).run(400)
    assert served.ttva_s.mean() * 1e3 == pytest.approx(alone, rel=0.03)
    assert served.kept == pytest.approx(1.0, abs=0.03)


def test_an_action_that_yields_goes_on_from_where_it_is() -> None:
    library = Library(MethodVariant("auto", "balanced"), CELL, PROFILE.world, size=8)
    waits = 0
    for level, action in itertools.product((0, 3), range(8)):
        pick = library.picks(level)[action]
        crowded: tuple[int, ...] = ()
        while crowded[-1:] < (len(pick.trace(crowded).visits) - 2,):
            before, place = pick.trace(crowded), crowded[-1] + 1 if crowded else 0
            crowded = (*crowded, place)
            after = pick.trace(crowded)
            assert after.visits[: place + 1] == before.visits[: place + 1]
            assert before.visits[place + 1].gap_s == 0
            waits += after.visits[place + 1].gap_s > 0
    assert waits, "though not in every action: a guess from the last answer is verified at once"


def test_an_action_that_does_not_yield_does_not_care() -> None:
    for action in Library(MethodVariant("auto", "latency"), CELL, PROFILE.world, size=4).picks():
        assert action.trace((0, 2)) is action.trace()


def test_where_many_share_its_passes_a_server_drafts_only_for_those_who_draft_nothing_themselves() -> None:
    world = replace(PROFILE.world, last_right=0.2)
    auto = Library(MethodVariant("auto", "latency"), CELL, world, size=8)

    def drafted(picks: Sequence[LibraryAction]) -> int:
        return sum(visit.own_s > 0 for pick in picks for visit in pick.trace().visits)

    assert drafted(auto.picks(sharing=0)) > 8 > drafted(auto.picks(sharing=2)) == 0
    colocated = Library(MethodVariant("colocated"), CELL, world, size=2)
    assert drafted(colocated.picks()) and colocated.pick(1.0, 9.0, random.Random(1)) in colocated.picks()


# ---- agreement with the state machines ---------------------------------------------------------------------


WORLDS = {"fleet-h100": PROFILE.world, "prompts in pieces": CROWDED}


@pytest.mark.parametrize(
    ("variant", "world"),
    [
        *((variant, "fleet-h100") for variant in VARIANTS),
        (MethodVariant("cloud"), "prompts in pieces"),
        (MethodVariant("auto", "balanced"), "prompts in pieces"),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_the_queue_agrees_with_the_state_machines_message_by_message(
    variant: MethodVariant, world: str
) -> None:
    """Eight robots on one GPU; several runs, since robots keep their place in each other's period for long.

    Many runs where prompts do not fit into one pass: there much depends on whose frames come at the same time.
    """
    cell = replace(CELL, ratio=PROFILE.draft_ms / WORLDS[world].step_ms)
    library, server = Library(variant, cell, WORLDS[world]), PlannedServer.of(cell, WORLDS[world])
    seeds = 20 if WORLDS[world] is CROWDED else 5
    machines = [serve(server, library, 8, 2.0, 120, seed) for seed in range(seeds)]
    queue = [Gpu(server, library, 8, 2.0, seed).run(400) for seed in range(20)]
    for told, near in ((_mean_ms, 0.04), (_p95_ms, 0.06), (_passes, 0.04)):
        assert told(queue) == pytest.approx(told(machines), rel=near)
    for name in ("utilisation", "kept"):
        found, expected = (np.mean([getattr(run, name) for run in runs]) for runs in (queue, machines))
        assert found == pytest.approx(expected, abs=0.05)


def _mean_ms(runs: Sequence[Served]) -> float:
    return float(np.concatenate([run.ttva_s for run in runs]).mean()) * 1e3


def _p95_ms(runs: Sequence[Served]) -> float:
    return float(np.percentile(np.concatenate([run.ttva_s for run in runs]), 95)) * 1e3


def _passes(runs: Sequence[Served]) -> float:
    return float(np.mean([run.passes for run in runs]))


# ---- the queue ---------------------------------------------------------------------------------------------

LIBRARIES = {
    variant: Library(variant, replace(CELL, ratio=1.0), CROWDED, size=6)
    for variant in (MethodVariant("cloud"), MethodVariant("colocated"), MethodVariant("auto", "balanced"))
}


class PassRound(NamedTuple):
    """What a server did from `began` to `ended`, in seconds; robots by number, in the order of the queue.

    Attributes:
        prepared: whose prompts were prepared first.
        seated: who had a whole request in the pass that followed.
        reading: who had a part of a prompt prefilled in it, and stays in the queue.
        left: who was ready and found no slot.
    """

    began: float
    ended: float
    prepared: tuple[int, ...]
    seated: tuple[int, ...]
    reading: tuple[int, ...]
    left: tuple[int, ...]


class LoggedGpu(Gpu):
    """Notes what it did in each round."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rounds: list[PassRound] = []

    def step(self) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        began = self.now
        prepared, slots, left = super().step()
        whole = tuple(number for number, prefill in slots if not prefill)
        reading = tuple(number for number, prefill in slots if prefill)
        self.rounds.append(PassRound(began, self.now, tuple(prepared), whole, reading, tuple(left)))
        return prepared, slots, left


@settings(max_examples=25)
@given(
    variant=st.sampled_from(list(LIBRARIES)),
    robots=st.integers(1, 40),
    rate=st.floats(0.5, 20.0),
    seed=st.integers(0, 1000),
)
def test_a_server_is_never_idle_and_never_unfair(
    variant: MethodVariant, robots: int, rate: float, seed: int
) -> None:
    library = LIBRARIES[variant]
    gpu = LoggedGpu(PlannedServer.of(library.cell, CROWDED), library, robots, rate, seed)
    served, rounds = gpu.run(60), gpu.rounds
    # Every action that was begun in the time that is measured has ended in it or after it, once.
    assert 1 <= len(served.ttva_s) <= 1.2 * max(60, 4 * robots)
    assert served.ttva_s.min() > CELL.rtt_ms / 1e3 + CROWDED.prefill_ms / 1e3
    assert 0 < served.utilisation <= 1 + 1e-9
    for before, after in itertools.pairwise(rounds):
        assert before.ended <= after.began
        if before.left or before.reading:  # somebody was still in line
            assert before.ended == after.began
        # Who was in line and is not served stays in line, and nobody is twice in it.
        assert not {*before.left} - {*after.seated, *after.reading, *after.left}
        assert len({*after.seated, *after.reading, *after.left}) == sum(
            map(len, (after.seated, after.reading, after.left))
        )
    _nobody_is_overtaken_twice(rounds)


def _nobody_is_overtaken_twice(rounds: Sequence[PassRound]) -> None:
    """Who waits for a token has it before anybody who stood behind has a second one.

    Prompts are read in pieces, in the order in which they came.
    """
    with_prompt: set[int] = set()
    overtaken: dict[int, set[int]] = {}
    for round_ in rounds:
        with_prompt |= {*round_.prepared}
        served = {*round_.seated, *round_.reading}
        for waiting, others in overtaken.items():
            if waiting not in served and waiting not in with_prompt:
                assert not others & served, (waiting, others)
        for number in round_.left:
            overtaken.setdefault(number, set()).update(served)
        for number in round_.seated:
            overtaken.pop(number, None)
            with_prompt.discard(number)


@pytest.mark.parametrize(("robots", "rate"), [(40, 20.0), (3, 500.0), (1, 1000.0)])
def test_robots_that_want_too_much_are_served_all_the_same(robots: int, rate: float) -> None:
    library = LIBRARIES[MethodVariant("cloud")]
    served = Gpu(PlannedServer.of(library.cell, CROWDED), library, robots, rate).run(60)
    assert len(served.ttva_s) and np.isfinite(served.ttva_s).all()
    assert 0 < served.kept < 0.95 and served.utilisation <= 1 + 1e-9


def test_the_same_seed_is_the_same_queue() -> None:
    library = LIBRARIES[MethodVariant("auto", "balanced")]
    runs = [
        Gpu(PlannedServer.of(library.cell, CROWDED), library, 9, 3.0, seed).run(200) for seed in (4, 4, 5)
    ]
    assert np.array_equal(runs[0].ttva_s, runs[1].ttva_s)
    assert not np.array_equal(runs[0].ttva_s, runs[2].ttva_s)


def test_more_robots_wait_longer_and_a_full_server_slows_them_down() -> None:
    library = LIBRARIES[MethodVariant("cloud")]
    server = PlannedServer.of(library.cell, CROWDED)
    few, many, far_too_many = (Gpu(server, library, n, 2.0).run(400) for n in (1, 8, 60))
    assert few.ttva_s.mean() < many.ttva_s.mean() < far_too_many.ttva_s.mean()
    assert few.utilisation < many.utilisation <= far_too_many.utilisation
    assert far_too_many.kept < 0.9 < many.kept


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=30))
def test_where_all_fit_into_a_pass_all_have_a_part_in_it(turns: list[tuple[int, int]]) -> None:
    from spec_decode_ros.server.scheduler import VerifyRequest, schedule_step

    server = PlannedServer(Times(), 200)
    shared = schedule_step([VerifyRequest(*turn) for turn in turns], server.budget)
    assert server.slots(turns) == [(slot.index, slot.prefill) for slot in shared]


# ---- regions and GPUs --------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 400), st.sampled_from(Sticky))
def test_no_robot_is_lost_among_servers(robots: int, gpus: int, sticky: Sticky) -> None:
    parts = loads(robots, gpus, sticky)
    assert all(number >= 1 and 0 < chance <= 1 + 1e-9 for number, chance in parts)
    assert sum(number * chance for number, chance in parts) == pytest.approx(robots / gpus, rel=0.01)
    if sticky is Sticky.EVEN:
        assert {number for number, _ in parts} <= {robots // gpus, math.ceil(robots / gpus)}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 1_000_000))
def test_robots_are_shared_out_to_regions(parts: list[int], total: int) -> None:
    shares = [part / sum(parts) for part in parts]
    fleet = Fleet("f", "", tuple(Region(str(i), share, 10.0, 1.0) for i, share in enumerate(shares)))
    robots = fleet.robots(total)
    assert sum(robots.values()) == total
    assert all(abs(robots[str(i)] - share * total) < 1.001 for i, share in enumerate(shares))


@pytest.fixture(scope="module")
def site() -> Site:
    library = Library(MethodVariant("cloud"), CELL, PROFILE.world)
    return Site(
        library,
        PlannedServer.of(CELL, PROFILE.world),
        LatencyGoal(2.0, 450.0),
        SimulationSettings(actions=400),
    )


def test_the_fewest_gpus_keep_the_goal_and_one_less_does_not(site: Site) -> None:
    for robots in (1, 7, 60, 1000):
        gpus = site.gpus_needed(robots)
        assert gpus is not None
        assert site.with_gpus(robots, gpus).keeps(site.goal)
        assert gpus == 1 or not site.with_gpus(robots, gpus - 1).keeps(site.goal)
    assert math.ceil(1000 / site.robots_per_gpu) == pytest.approx(gpus, rel=0.1)


def test_no_server_takes_more_robots_than_their_prompts_allow(site: Site) -> None:
    assert 1 <= site.robots_per_gpu <= site.server.prompts_per_s / site.goal.rate


def test_servers_drawn_at_random_are_needed_more_than_even_ones(site: Site) -> None:
    at_random = Site(site.library, site.server, site.goal, SimulationSettings(Sticky.RANDOM, actions=400))
    even, random = site.gpus_needed(1000), at_random.gpus_needed(1000)
    assert even is not None and random is not None and random > even


def test_a_goal_below_the_time_of_one_robot_is_out_of_reach(site: Site) -> None:
    hasty = Site(site.library, site.server, LatencyGoal(2.0, 200.0), SimulationSettings(actions=400))
    assert hasty.gpus_needed(100) is None
    assert hasty.robots_per_gpu == 0


# ---- files -------------------------------------------------------------------------------------------------


def test_every_shipped_fleet_can_be_read() -> None:
    assert "example" in fleet_names()
    for name in fleet_names():
        assert load_fleet(name).regions


REGION = "{name: a, share: 1, rtt_ms: 10, gpu_hour: 2}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "mapping"),
        ("regions: 3", "list of mappings"),
        ("regions: []", "needs regions"),
        (f"regions: [{REGION}, {REGION}]", "name of its own"),
        ("regions: [{name: a, share: 0.5, rtt_ms: 10, gpu_hour: 2}]", "add up to 1, not 0.5"),
        ("regions: [{name: a, share: 1, rtt_ms: -1, gpu_hour: 2}]", "rtt_ms of the region a is from 0"),
        ("regions: [{name: a, share: 1, rtt_ms: fast, gpu_hour: 2}]", "not 'fast'"),
        ("regions: [{name: a, share: 1}]", "missing"),
        ("regions: [{name: a, share: 1, rtt_ms: .nan, gpu_hour: 2}]", "not nan"),
        ("{", "not a fleet"),
        (f"{{robots: 3, regions: [{REGION}]}}", "nothing else"),
    ],
)
def test_a_file_that_is_no_fleet_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(SpecDecodeError, match=reason):
        load_fleet(str(path))
