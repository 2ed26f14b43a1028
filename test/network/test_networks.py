"""Named and recorded networks, and the probe that measures them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from spec_decode_ros import cli
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link import EmulatedLink, LinkDirection
from spec_decode_ros.lab.network.link_profile import NETWORKS, LinkProfile, load_trace, network_named
from spec_decode_ros.lab.network.probe import BURST, far_end, probe, queue_positions, seconds_per_message

TRACE = "t_s,rtt_ms,uplink_mbps\n0,20,8\n1.5,80,2\n2.0,30,4\n"


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "walk.csv"
    path.write_text(TRACE)
    return str(path)


def test_a_network_has_a_name_and_a_seed() -> None:
    assert network_named("lte", seed=4) == LinkProfile(
        rtt_ms=55.0, uplink_mbps=10.0, downlink_mbps=40.0, jitter_ms=15.0, loss=0.005, seed=4
    )
    with pytest.raises(SpecDecodeError, match="choose one of lan, wifi, 5g, lte, satellite"):
        network_named("carrier pigeon")


def test_a_trace_changes_with_time_and_begins_anew(trace: str) -> None:
    recorded = load_trace(trace, LinkProfile(downlink_mbps=50.0, loss=0.1))
    assert recorded.length_s == 2.5
    seen = [recorded.at(t) for t in (0.0, 1.49, 1.5, 2.4, 2.5, 4.0)]
    assert [profile.rtt_ms for profile in seen] == [20.0, 20.0, 80.0, 30.0, 20.0, 80.0]
    assert [profile.uplink_mbps for profile in seen] == [8.0, 8.0, 2.0, 4.0, 8.0, 2.0]
    assert {(profile.downlink_mbps, profile.loss) for profile in seen} == {(50.0, 0.1)}


def test_messages_are_delayed_as_the_trace_says(tmp_path: Path) -> None:
    path = tmp_path / "constant.csv"
    path.write_text("t_s,rtt_ms\n0,40\n1,40\n")
    with far_end() as target, EmulatedLink(target, network_named(str(path))) as link:
        assert probe(link.endpoint, count=5, burst_s=0.01).rtt_ms >= 39.7


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least two rows"),
        ("t_s,rtt_ms\n0,1\n", "at least two rows"),
        ("t_s,rtt_ms\n1,1\n2,1\n", "rising from 0"),
        ("t_s,rtt_ms\n0,1\n0,1\n", "rising from 0"),
        ("rtt_ms\n1\n2\n", "needs a column t_s"),
        ("t_s,rtt_ms\n0,1\n1,fast\n", "no trace of a link"),
        ("t_s,rtt_ms\n0,1\n1\n", "no trace of a link"),
        ("t_s,rtt_ms\n0,1\nnan,1\n", "not finite"),
        ("t_s,loss\n0,0\n1,2\n", "below 1"),
    ],
)
def test_a_file_that_is_no_trace_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SpecDecodeError, match=reason):
        network_named(str(path))
    with pytest.raises(SpecDecodeError, match="cannot read"):
        network_named(str(tmp_path / "nowhere.csv"))


def test_an_outage_is_the_end_of_every_period() -> None:
    profile = LinkProfile(outage_every_s=10.0, outage_s=2.0)
    assert [profile.is_out(t) for t in (0.0, 7.9, 8.0, 9.9, 10.0, 18.5)] == [
        False, False, True, True, False, True,
    ]  # fmt: skip
    assert not LinkProfile().is_out(3.0)
    with pytest.raises(SpecDecodeError, match="outage_every_s above that"):
        LinkProfile(outage_s=1.0)


def test_an_outage_loses_what_is_sent_in_it() -> None:
    profile = LinkProfile(outage_every_s=0.05, outage_s=0.005)
    with far_end() as target, EmulatedLink(target, profile) as link:
        assert 0.01 < probe(link.endpoint, count=60, burst_s=0.01).loss < 0.98


def test_a_probe_never_sees_a_better_network_than_was_asked_for() -> None:
    """How much worse it is depends on how busy the machine is: `spec-decode network --probe` measures that."""
    profile = LinkProfile(rtt_ms=10.0, uplink_mbps=20.0, downlink_mbps=40.0)
    with far_end() as target, EmulatedLink(target, profile) as link:
        found = probe(link.endpoint, count=20, burst_s=0.2)
    assert found.rtt_ms >= 9.7
    assert found.uplink_mbps < 30.0 and found.downlink_mbps < 60.0
    assert found.loss == 0.0


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", NETWORKS)
def test_jitter_does_not_change_what_a_burst_tells_of_the_bandwidth(name: str, up: bool) -> None:
    """In the time of the emulated line itself, so whatever the machine does: within 5 %, for each of 200 lines."""
    profile = NETWORKS[name]
    mbps = profile.uplink_mbps if up else profile.downlink_mbps
    size = min(round(mbps * 1e6 / 8 / BURST), 400_000)  # a burst of a second
    for seed in range(200):
        line, back = LinkDirection(up, seed), random.Random(-seed)
        came = {number: line.arrival(0.0, size, profile) for number in range(BURST)}
        numbers = [number for number, at in came.items() if at is not None]
        # The answers come back with jitter of their own, and one of them may be lost too.
        heard = [number for number in numbers if back.random() >= profile.loss]
        places = queue_positions(heard, len(numbers))
        if places is None:
            assert len(heard) < len(numbers) < BURST
            continue
        jitters = (back.random() * profile.jitter_ms / 1e3 for _ in heard)
        arrivals = [(came[number] or 0.0) + jitter for number, jitter in zip(heard, jitters, strict=True)]
        assert size * 8e-6 / seconds_per_message(places, arrivals) == pytest.approx(mbps, rel=0.05)


def test_a_pause_of_the_machine_does_not_count() -> None:
    arrivals = [0.01 * place for place in range(BURST)]
    for place in range(12, 17):
        arrivals[place] = 0.3
    assert seconds_per_message(range(BURST), arrivals) == pytest.approx(0.01, rel=0.05)
    with pytest.raises(SpecDecodeError, match="two messages"):
        seconds_per_message([0], [1.0])


def test_what_was_lost_before_the_line_took_none_of_it() -> None:
    assert queue_positions([3, 0, 2], passed=3, sent=4) == [2, 0, 1]
    assert queue_positions([3, 0, 2], passed=4, sent=4) == [3, 0, 2]
    assert queue_positions([3, 0, 2], passed=4, sent=5) is None


def test_the_networks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["network"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in NETWORKS)
    assert cli.main(["network", "moon"]) == 2
    assert cli.main(["network", "lan", "--probe", "--count", "0"]) == 2
    assert "--count" in capsys.readouterr().err
