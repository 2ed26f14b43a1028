"""The emulated network delays, limits, loses and forwards."""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import statistics
import sys
import time
from collections.abc import Iterator

import pytest
from transport.ipv6 import needs_ipv6
from transport.test_wire import WAIT_S, connected, echo

from spec_decode_ros.decoding.messages import Draft
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile, link_process
from spec_decode_ros.lab.network.message_faults import MessageFaults
from spec_decode_ros.transport.client import Arrival, Client
from spec_decode_ros.transport.process import ChildError, ReadyChild


@contextlib.contextmanager
def linked(
    profile: LinkProfile, faults: MessageFaults | None = None
) -> Iterator[tuple[EmulatedLink, Client, queue.Queue[Arrival]]]:
    with (
        echo() as served,
        EmulatedLink(served.endpoint, profile, faults=faults) as link,
        connected(link.endpoint) as (client, arrivals),
    ):
        client.wait_ready(WAIT_S)
        yield link, client, arrivals


def round_trips_ms(
    client: Client, arrivals: queue.Queue[Arrival], count: int, tokens: int = 3
) -> list[float]:
    times = []
    for index in range(count):
        start = time.perf_counter()
        client.send(Draft(1, index, tuple(range(tokens))))
        arrival = arrivals.get(timeout=WAIT_S)
        assert arrival.message.position == index
        times.append((arrival.at - start) * 1000.0)
    return times


@pytest.mark.parametrize("rtt_ms", [0.0, 20.0, 60.0])
def test_a_round_trip_takes_what_the_profile_says(rtt_ms: float) -> None:
    with linked(LinkProfile(rtt_ms)) as (_, client, arrivals):
        times = round_trips_ms(client, arrivals, 10)
    # Never early; how late depends on how busy the machine is.
    assert min(times) >= rtt_ms - 0.3
    assert statistics.median(times) < rtt_ms + 100.0


def test_a_narrow_uplink_takes_its_time_by_bytes() -> None:
    # 200 tokens of 5 bytes are 1 kB: 80 ms at 0.1 Mbit/s.
    with linked(LinkProfile(uplink_mbps=0.1)) as (_, client, arrivals):
        start = time.perf_counter()
        client.send(Draft(1, 0, (2**31 - 1,) * 200))
        took_ms = (arrivals.get(timeout=WAIT_S).at - start) * 1000.0
    assert took_ms >= 79.0


def test_what_was_sent_first_arrives_first_without_jitter() -> None:
    with linked(LinkProfile(10.0)) as (_, client, arrivals):
        for index in range(300):
            client.send(Draft(1, index, (1,)))
        assert [arrivals.get(timeout=WAIT_S).message.position for _ in range(300)] == list(range(300))


def test_two_robots_behind_one_link_stay_two() -> None:
    with (
        echo() as served,
        EmulatedLink(served.endpoint, LinkProfile(5.0)) as link,
        connected(link.endpoint) as (one, one_hears),
        connected(link.endpoint) as (two, two_hears),
    ):
        one.wait_ready(WAIT_S)
        two.wait_ready(WAIT_S)
        one.send(Draft(1, 0, (1,)))
        two.send(Draft(1, 0, (2,)))
        assert one_hears.get(timeout=WAIT_S).message.tokens == (1,)
        assert two_hears.get(timeout=WAIT_S).message.tokens == (2,)
        identities = {served.seen.get(timeout=WAIT_S)[0] for _ in range(2)}
    assert len(identities) == 2


def test_loss_is_seeded_and_about_as_asked() -> None:
    def arrived() -> list[int]:
        with linked(LinkProfile(loss=0.3, seed=5)) as (_, client, arrivals):
            for index in range(200):
                client.send(Draft(1, index, (1,)))
            time.sleep(0.5)
            return [arrivals.get_nowait().message.position for _ in range(arrivals.qsize())]

    # Both ways lose: 0.7 * 0.7 of 200 is 98.
    assert 60 < len(arrived()) < 140


def test_a_cut_link_loses_everything_until_it_is_mended() -> None:
    with linked(LinkProfile()) as (link, client, arrivals):
        link.cut()
        client.send(Draft(1, 1, (1,)))
        with pytest.raises(queue.Empty):
            arrivals.get(timeout=0.3)
        link.mend()
        client.send(Draft(1, 2, (1,)))
        assert arrivals.get(timeout=WAIT_S).message.position == 2


def test_the_link_as_a_process_of_its_own() -> None:
    with (
        echo() as served,
        link_process(served.endpoint, LinkProfile(20.0)) as endpoint,
        connected(endpoint) as (client, arrivals),
    ):
        client.wait_ready(WAIT_S)
        assert min(round_trips_ms(client, arrivals, 5)) >= 19.7


@needs_ipv6
def test_a_link_leads_to_a_server_over_ipv6() -> None:
    with (
        echo(bind="tcp://[::1]:*") as served,
        link_process(served.endpoint, LinkProfile()) as endpoint,
        connected(endpoint) as (client, _),
    ):
        client.wait_ready(WAIT_S)


@pytest.mark.parametrize(
    "options", [{"rtt_ms": -1.0}, {"rtt_ms": float("nan")}, {"loss": 1.0}, {"uplink_mbps": -2.0}]
)
def test_impossible_profiles_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SpecDecodeError):
        LinkProfile(**options)


@pytest.mark.parametrize(
    ("program", "timeout_s", "sentence"),
    [
        (
            "import sys; sys.exit('no such thing')",
            20.0,
            "ended with code 1 before it was ready: no such thing",
        ),
        ("import time; time.sleep(60)", 0.5, r"not ready within 0\.5 s; it wrote nothing"),
    ],
)
def test_a_child_that_fails_says_why(program: str, timeout_s: float, sentence: str) -> None:
    child = ReadyChild([sys.executable, "-c", program], "it", timeout_s)
    with pytest.raises(ChildError, match=sentence), child:
        pass


def test_a_child_can_be_killed_and_started_again_and_told_things() -> None:
    program = (
        "import sys; print('ready here', flush=True); sys.exit(3 if sys.stdin.readline() == 'go\\n' else 0)"
    )
    child = ReadyChild([sys.executable, "-c", program], "it", WAIT_S)
    assert child.start() == "here" and child.running
    first = child.pid
    child.kill()
    child.kill()
    assert not child.running
    assert child.start() == "here" and child.pid != first
    child.write_line("go")
    with pytest.raises(ChildError, match="it ended with code 3"):
        child.wait(WAIT_S)
    child.stop()


def test_more_robots_than_select_can_wait_for() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < 1200:
        pytest.skip(f"only {most} files may be open here")
    with (
        echo() as served,
        EmulatedLink(served.endpoint, LinkProfile()) as link,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(1024):  # as many robots would
            stack.enter_context(open(os.devnull))
        client, _ = stack.enter_context(connected(link.endpoint))
        client.wait_ready(WAIT_S)
