"""Percentiles, capacities and the schedule of a fleet."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.capacity import (
    Capacity,
    Load,
    Usage,
    capacity,
    next_load,
    percentile,
    predicted_gain,
)
from spec_decode_ros.lab.bench.fleet.log import FleetLog, LoggedAction, read_log
from spec_decode_ros.lab.bench.fleet.robots import JITTER, FleetOrders, due_times
from spec_decode_ros.lab.bench.variants import MethodVariant


def test_percentiles_count_what_took_for_ever() -> None:
    assert percentile([float(value) for value in range(1, 101)], 0.95) == 95.0
    assert percentile([5.0], 0.5) == 5.0
    assert percentile([1.0] * 94 + [math.inf] * 6, 0.95) == math.inf
    assert percentile([1.0] * 95 + [math.inf] * 5, 0.95) == 1.0


def test_capacity_lies_between_the_loads_around_the_bound() -> None:
    between = capacity({1: 50.0, 4: 100.0, 16: 400.0}, 200.0)  # half way, in logarithms
    assert between.robots == pytest.approx(10.0) and not between.more
    assert capacity({1: 50.0, 4: 100.0}, 200.0) == Capacity(4, True)
    assert capacity({1: 50.0, 4: math.inf}, 200.0) == Capacity(1, False)
    assert capacity({1: 300.0}, 200.0) == Capacity(0, False)


@given(st.integers(1, 64), st.integers(1, 300))
def test_bisection_finds_any_capacity(first: int, holds: int) -> None:
    def p95(robots: int) -> float:
        return 100.0 if robots <= holds else 900.0

    known = {1: p95(1), first: p95(first)}
    for tries in itertools.count():
        more = next_load(known, 500.0, precision=0.0)
        if more is None:
            break
        assert more not in known and tries < 20
        known[more] = p95(more)
    assert max(robots for robots, ms in known.items() if ms == 100.0) == holds
    assert holds <= capacity(known, 500.0).robots < holds + 1


def test_the_gain_of_leaving_the_drafting_to_robots() -> None:
    assert predicted_gain(4, 10.0, 40.0) == 2.0
    assert predicted_gain(0, 10.0, 40.0) == 1.0


def acts() -> tuple[LoggedAction, ...]:
    good = {"ttva_ms": 80.0, "cloud_passes": 2.0, "cloud_busy_ms": 20.0}
    return (
        LoggedAction(0, 0, "auto", 1.0, 1.0, 1.08, "verified", True, figures=good),
        LoggedAction(0, 1, "auto", 1.5, 1.6, 1.7, "verified", False, figures={**good, "ttva_ms": 200.0}),
        LoggedAction(1, 0, "auto", 1.0, 1.0, 2.0, "refused", sentence="no"),
        LoggedAction(1, 1, "auto", 1.5, outcome="not started"),
    )


def test_a_load_hides_nothing() -> None:
    found = Load("auto", 2, acts(), Usage(2.0, 10.0, 15.0, 1.0, None, served=6)).as_dict()
    assert (found["actions"], found["verified_actions"], found["wrong_actions"]) == (4, 2, 1)
    assert (found["refused_actions"], found["unfinished_actions"], found["late_actions"]) == (1, 1, 2)
    assert found["ttva_ms"] == {"p50": 200.0, "p95": None, "p99": None}
    assert (found["passes_per_s"], found["batch"], found["server_cores"]) == (5.0, 1.5, 0.5)
    assert found["actions_per_s"] == 3.0
    assert found["edge_cores"] is None and found["cloud_busy_ms"] == 20.0


def test_two_measurements_of_a_load_are_one_longer_one() -> None:
    load = Load("auto", 2, acts(), Usage(2.0, 10.0, 15.0, 1.0, None, served=6))
    both = (load + load).as_dict()
    assert (both["actions"], both["seconds"], both["passes_per_s"]) == (8, 4.0, 5.0)
    assert Load("auto", 2, (), Usage(1.0)).as_dict()["ttva_ms"]["p50"] is None


def test_a_log_tells_the_newest_of_every_action(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = FleetLog(path)
    begun = LoggedAction(1, 1, "auto", 1.5, 1.6)
    for act in (begun, *acts()):
        log.write(act)
    log.write(LoggedAction(7, 0, "auto", 3.0, 3.1))
    log.close()
    with path.open("a") as file:
        file.write('{"robot": 9, "num')  # its process was killed in the middle of a line
    assert read_log(path) == [acts()[3], *acts()[:3], LoggedAction(7, 0, "auto", 3.0, 3.1)]
    assert read_log(tmp_path / "none") == []


@given(st.floats(0.1, 20.0), st.floats(0.5, 20.0), st.integers(0, 99))
def test_frames_come_once_a_period_with_jitter(rate: float, seconds: float, robot: int) -> None:
    times = list(due_times(rate, seconds, 1, robot))
    assert times == list(due_times(rate, seconds, 1, robot))
    assert times == sorted(times) and all(0 <= at < seconds for at in times)
    assert all(abs(b - a - 1 / rate) <= 2 * JITTER / rate + 1e-9 for a, b in itertools.pairwise(times))
    assert abs(len(times) - rate * seconds) <= 2


def test_orders_cross_the_command_line_and_are_checked() -> None:
    orders = FleetOrders(
        "r", "tcp://a", "l", (MethodVariant("cloud"), MethodVariant("auto", "cost")), robots=3
    )
    assert FleetOrders.of_json(orders.as_json()) == orders
    assert [way.name for way in orders.ways] == ["cloud", "auto, cost"]
    with pytest.raises(SpecDecodeError, match="objective"):
        MethodVariant("auto", "haste")  # type: ignore[arg-type]
