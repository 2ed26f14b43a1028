"""The routing table: which replica a robot gets, and when it gets another one; in invented time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.routing import Routing, RoutingPolicy, emptiest, surplus

POLICY = RoutingPolicy(quiet_s=0.8, patience_s=30.0)
ROBOTS = 20
LOADS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30))


def routing(*replicas: str, policy: RoutingPolicy = POLICY) -> Routing:
    table = Routing(policy)
    for replica in replicas:
        table.add(replica)
        table.mark_up(replica)
    return table


def robots(count: int) -> list[bytes]:
    return [b"robot %d" % index for index in range(count)]


def routed(table: Routing, names: list[bytes], now: float = 0.0) -> list[str | None]:
    return [table.route(robot, now) for robot in names]


@given(LOADS)
def test_the_emptiest_replica_is_chosen(loads: dict[str, int]) -> None:
    chosen = emptiest(loads)
    assert (chosen is None) == (not loads)
    assert not loads or all(loads[chosen] <= count for count in loads.values())


@given(LOADS, st.integers(0, 30))
def test_taking_the_surplus_away_evens_the_loads_with_the_fewest_moves(
    loads: dict[str, int], unassigned: int
) -> None:
    above = surplus(loads, unassigned)
    left = {name: count - above.get(name, 0) for name, count in loads.items()}
    for _ in range(unassigned + sum(above.values())):
        name = emptiest(left)
        if name is not None:
            left[name] += 1
    if loads:
        assert max(left.values()) - min(left.values()) <= 1
        assert sum(left.values()) == sum(loads.values()) + unassigned
        least_moves = sum(max(0, count - max(left.values())) for count in loads.values())
        assert sum(above.values()) >= least_moves
        assert not above or max(loads.values()) - min(loads.values()) >= 2 or unassigned


def test_even_loads_have_no_surplus() -> None:
    assert surplus({"a": 3, "b": 2, "c": 3}) == {}
    assert surplus({"a": 2, "b": 2, "c": 0}) == {"b": 1}
    assert surplus({"a": 6, "b": 0}, unassigned=2) == {"a": 2}


def test_robots_are_spread_evenly_and_stay_where_they_are() -> None:
    table = routing("a", "b")
    first = routed(table, robots(6))
    assert (first.count("a"), first.count("b")) == (3, 3)
    assert routed(table, robots(6), 1.0) == first
    assert table.tick(1.1) == ()


def test_a_replica_gets_no_robots_before_it_answers() -> None:
    table = Routing(POLICY)
    table.add("a")
    assert table.route(b"r", 0.0) is None
    table.mark_up("a")
    assert table.route(b"r", 0.1) == "a"


def test_the_robots_of_a_dead_replica_go_to_the_others() -> None:
    table = routing("a", "b", "c")
    before = dict(zip(robots(9), routed(table, robots(9)), strict=True))
    lost = table.mark_down("a")
    assert sorted(lost) == sorted(robot for robot, replica in before.items() if replica == "a")
    after = dict(zip(robots(9), routed(table, robots(9), 0.1), strict=True))
    assert all(after[robot] == before[robot] for robot in robots(9) if robot not in lost)
    assert {name: state.robots for name, state in table.replicas.items()} == {"a": 0, "b": 5, "c": 4} or {
        name: state.robots for name, state in table.replicas.items()
    } == {"a": 0, "b": 4, "c": 5}


def test_a_replica_that_is_to_leave_loses_its_robots_at_a_pause_of_theirs() -> None:
    table = routing("a", "b")
    one, two = robots(2)
    assert routed(table, [one, two]) == ["a", "b"]
    table.leave("a", 0.0)
    assert table.tick(0.5) == ()  # too short a pause
    table.on_answer(one, 0.5)
    assert table.tick(1.0) == ()
    assert table.tick(1.3) == (one,)
    assert table.route(one, 1.4) == "b"
    assert table.replicas["a"].robots == 0 and table.replicas["a"].leaving


def test_a_robot_that_never_pauses_moves_when_patience_ends() -> None:
    table = routing("a", "b")
    one = robots(1)[0]
    assert table.route(one, 0.0) == "a"
    table.leave("a", 0.0)
    for tenth in range(1, 300):
        table.route(one, tenth / 10)
        assert table.tick(tenth / 10) == ()
    assert table.tick(30.0) == (one,)


def test_the_last_replica_keeps_its_robots_though_it_is_to_leave() -> None:
    table = routing("a")
    table.route(b"r", 0.0)
    table.leave("a", 0.0)
    table.route(b"r", 99.0)
    assert table.tick(100.0) == ()
    table.add("a")  # after all
    assert not table.replicas["a"].leaving


def test_new_robots_get_a_replica_that_is_to_leave_until_there_is_another_one() -> None:
    table = routing("a")
    table.leave("a", 0.0)
    table.add("b")  # which still loads
    assert table.route(b"r", 1.0) == "a"
    table.mark_up("b")
    assert table.tick(2.0) == (b"r",)
    assert table.route(b"r", 2.1) == "b"


def test_a_new_replica_gets_its_share_of_robots_that_pause() -> None:
    table = routing("a")
    names = robots(4)
    routed(table, names)
    table.add("b")
    table.mark_up("b")
    table.route(names[0], 0.6)
    moved = table.tick(1.0)
    assert len(moved) == 2 and names[0] not in moved
    assert routed(table, list(moved), 1.1) == ["b", "b"]
    routed(table, names, 3.0)
    assert table.tick(3.9) == ()


def test_a_forgotten_robot_leaves_its_replica() -> None:
    table = routing("a")
    table.route(b"r", 0.0)
    table.forget(b"r")
    assert table.replicas["a"].robots == 0


@pytest.mark.parametrize("wrong", [{"quiet_s": 1.0}, {"quiet_s": -0.1}, {"patience_s": -1.0}])
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecDecodeError):
        RoutingPolicy(**wrong)  # type: ignore[arg-type]


class AnyHistory(RuleBasedStateMachine):
    """Replicas and robots come, go and fall silent in any order."""

    NAMES = st.sampled_from(["a", "b", "c", "d"])
    ROBOTS = st.sampled_from(robots(ROBOTS))

    def __init__(self) -> None:
        super().__init__()
        self.table = Routing(POLICY)
        self.now = 0.0
        self.known: set[bytes] = set()
        self.home: dict[bytes, str] = {}  # where a robot is, until it is told that it moves

    def left(self, names: tuple[bytes, ...]) -> None:
        for robot in names:
            self.home.pop(robot, None)

    @rule(name=NAMES)
    def add(self, name: str) -> None:
        self.table.add(name)

    @rule(name=NAMES)
    def mark_up(self, name: str) -> None:
        if name in self.table.replicas:
            self.table.mark_up(name)

    @rule(name=NAMES)
    def mark_down(self, name: str) -> None:
        if name in self.table.replicas:
            names = self.table.mark_down(name)
            assert set(names) == {robot for robot, home in self.home.items() if home == name}
            self.left(names)

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        if name in self.table.replicas:
            self.table.leave(name, self.now)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.left(self.table.remove(name))

    @rule(robot=ROBOTS)
    def route(self, robot: bytes) -> None:
        before = self.table.replicas
        replica = self.table.route(robot, self.now)
        up = {name for name, state in before.items() if state.up}
        open_ones = {name for name in up if not before[name].leaving} or up
        if robot in self.home:
            assert replica == self.home[robot], "a robot stays until it is told"
        else:
            assert (replica is None) == (not open_ones)
            assert replica is None or before[replica].robots == min(before[name].robots for name in open_ones)
        self.known.add(robot)
        if replica is not None:
            self.home[robot] = replica

    @rule(robot=ROBOTS)
    def on_answer(self, robot: bytes) -> None:
        self.table.on_answer(robot, self.now)

    @rule(robot=ROBOTS)
    def forget(self, robot: bytes) -> None:
        self.table.forget(robot)
        self.known.discard(robot)
        self.left((robot,))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.left(self.table.tick(self.now))
        # A second tick at the same time has nothing to do.
        assert self.table.tick(self.now) == ()

    @precondition(lambda self: any(s.up and not s.leaving for s in self.table.replicas.values()))
    @rule()
    def all_comes_to_rest(self) -> None:
        known = sorted(self.known)
        for step in itertools.count():
            assert step < 20
            self.now += 1.0
            for robot in known:
                self.route(robot)
            self.now += 0.9
            moved = self.table.tick(self.now)
            self.left(moved)
            if not moved:
                break
        loads = [state.robots for state in self.table.replicas.values() if state.up and not state.leaving]
        assert max(loads) - min(loads) <= 1
        assert all(s.robots == 0 for s in self.table.replicas.values() if s.leaving or not s.up)

    @invariant()
    def the_table_agrees_with_what_robots_know(self) -> None:
        counted = {name: state.robots for name, state in self.table.replicas.items() if state.robots}
        homes = [home for home in self.home.values()]
        assert counted == {name: homes.count(name) for name in set(homes)}


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40)
