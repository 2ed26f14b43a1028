"""The methods over the grid, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spec_decode_ros.decoding.controller import plan, server_draft_length
from spec_decode_ros.decoding.messages import Branches, Close, Draft, Open, ServerMode
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.decoding.testing import SteadyLink
from spec_decode_ros.lab.bench.grid import Cell, World, measurements, simulate_cell, simulate_method
from spec_decode_ros.lab.bench.profile.profile import load_profile

OTHERS = ("cloud", "colocated", "sync", "early_exit", "pipelined")


@pytest.mark.parametrize("rtt_ms", [5.0, 60.0, 250.0])
@pytest.mark.parametrize("acceptance", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("ratio", [0.05, 0.25])
def test_auto_is_never_far_from_the_best_and_cost_never_takes_longer_or_more_passes_than_the_target_alone(
    rtt_ms: float, acceptance: float, ratio: float
) -> None:
    row = simulate_cell(Cell(rtt_ms, acceptance, ratio), actions=60)
    assert row["auto"].ttva_ms <= 1.05 * min(row[name].ttva_ms for name in OTHERS)
    assert row["auto cost"].ttva_ms <= row["cloud"].ttva_ms
    assert row["auto cost"].passes < row["cloud"].passes


@pytest.mark.parametrize("acceptance", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("rtt_ms", [5.0, 60.0, 250.0])
@pytest.mark.parametrize("step_ms", [3.0, 40.0])
def test_early_exits_are_never_slower_than_to_stop_and_wait(
    acceptance: float, rtt_ms: float, step_ms: float
) -> None:
    world = World(tokens=14, prefill_ms=11.0, step_ms=step_ms)
    for ratio in (0.05, 0.25, 0.67):
        cell = Cell(rtt_ms, acceptance, ratio)
        early, sync = (
            simulate_method(METHODS[name], cell, world, 12).ttva_ms for name in ("early_exit", "sync")
        )
        assert early <= sync


@pytest.mark.parametrize("name", ["go2", "picospec-llama-gsm8k", "picospec-qwen-humaneval"])
def test_cost_is_never_slower_than_the_target_alone_with_published_times(name: str) -> None:
    profile = load_profile(name)
    for acceptance in (0.5, 0.8):
        cell = Cell(profile.rtts_ms[0], acceptance, profile.draft_ms / profile.world.step_ms)
        now = measurements(cell, profile.world)
        cost, cloud = (
            simulate_method(method, cell, profile.world, 6, server_draft_length(now))
            for method in (plan(METHODS["auto"], "cost", now), METHODS["cloud"])
        )
        assert cost.ttva_ms <= cloud.ttva_ms
        assert cost.passes < 0.75 * cloud.passes


@pytest.mark.parametrize("last_right", [0.2, 0.5, 0.8])
def test_a_server_that_drafts_is_as_fast_as_one_that_only_guesses_from_the_last_answer(
    last_right: float,
) -> None:
    profile = load_profile("fleet-h100")
    world = replace(profile.world, last_right=last_right)
    cell = Cell(60.0, 0.8, profile.draft_ms / world.step_ms)
    now = measurements(cell, world)
    auto, own = plan(METHODS["auto"], "latency", now), server_draft_length(now)
    assert auto.server is ServerMode.SELF_DRAFT
    streams = replace(auto, server=ServerMode.STREAM)
    drafts, guesses, colocated = (
        simulate_method(method, cell, world, 60, own).ttva_ms
        for method in (auto, streams, METHODS["colocated"])
    )
    assert drafts <= 1.05 * min(guesses, colocated)


def test_new_drafts_from_the_edge_help_a_server_that_drafts_by_itself_where_they_come_in_time() -> None:
    profile = load_profile("picospec-qwen-humaneval")
    cell = Cell(20.0, 0.53, profile.draft_ms / profile.world.step_ms)
    now = measurements(cell, profile.world)
    auto, own = plan(METHODS["auto"], "latency", now), server_draft_length(now)
    assert auto.server is ServerMode.SELF_DRAFT and auto.redrafts
    once = replace(auto, redrafts=False)
    redrafted, drafted_once = (
        simulate_method(method, cell, profile.world, 10, own).ttva_ms for method in (auto, once)
    )
    assert redrafted < 0.95 * drafted_once


def test_the_same_actions_every_time() -> None:
    cell = Cell(20.0, 0.7, 0.1)
    assert simulate_method(METHODS["auto"], cell, actions=5) == simulate_method(
        METHODS["auto"], cell, actions=5
    )


def test_drafts_take_their_time_to_upload() -> None:
    link = SteadyLink(rtt=0.02, frame_upload=0.5, draft_upload=0.1)
    assert link.arrivals(0.0, True, Open(1, "go")) == [pytest.approx(0.51)]
    assert link.arrivals(0.0, True, Draft(1, 0, (3,))) == [pytest.approx(0.61)]
    assert link.arrivals(0.0, True, Branches(1, 0, (3,), (0,))) == [pytest.approx(0.71)]
    assert link.arrivals(0.0, True, Close(1)) == [pytest.approx(0.71)]
    assert link.arrivals(0.0, False, Close(1)) == [pytest.approx(0.01)]
