"""Endpoints as people write them: what is understood, and what one sentence says of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_decode_ros.transport.endpoint import (
    Endpoint,
    EndpointError,
    parse_address,
    parse_endpoint,
    parse_endpoints,
)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://10.0.0.5:5555", Endpoint("tcp", "10.0.0.5", 5555)),
        (" TCP://10.0.0.5:05555\n", Endpoint("tcp", "10.0.0.5", 5555)),
        ("tcp://[::1]:5555", Endpoint("tcp", "::1", 5555)),
        ("tcp://[FE80:0::1%eth0]:1", Endpoint("tcp", "fe80::1%eth0", 1)),
        ("tcp://cloud-1.example.org:65535", Endpoint("tcp", "cloud-1.example.org", 65535)),
        ("tcp://robot_7:1", Endpoint("tcp", "robot_7", 1)),
        ("ipc:///run/verifier", Endpoint("ipc", "/run/verifier")),
    ],
)
def test_what_a_robot_can_connect_to(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["tcp://*:5555", "tcp://[::]:5555", "tcp://0.0.0.0:5555", "tcp://eth0:*"])
def test_only_a_server_can_listen_everywhere_or_on_any_port(text: str) -> None:
    listening = parse_endpoint(text, listening=True)
    assert parse_endpoint(str(listening), listening=True) == listening
    with pytest.raises(EndpointError):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
def test_any_free_port_has_two_names(text: str) -> None:
    assert parse_endpoint(text, listening=True) == Endpoint("tcp", "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is empty"),
        ("tcp://", "no host and no port"),
        ("tcp://127.0.0.1", "the port is missing"),
        ("tcp://127.0.0.1:", "the port is missing"),
        ("tcp://[::1]", "the port is missing"),
        ("tcp://:5555", "the host is missing"),
        ("tcp://127.0.0.1:80000", "'80000' is no port: ports are 1 to 65535"),
        ("tcp://127.0.0.1:99999999999", "is no port"),
        ("tcp://127.0.0.1:0", "0 is no port to connect to"),
        ("tcp://127.0.0.1:*", "no port to connect to"),
        ("tcp://127.0.0.1:-1", "is no port"),
        ("tcp://127.0.0.1:５５５５", "is no port"),
        ("tcp://127.0.0.1:5555/", "'5555/' is no port"),
        ("tcp://::1:5555", "in brackets"),
        ("tcp://[::1:5555", "bracket"),
        ("tcp://[10.0.0.5]:5555", "no IPv6 address"),
        ("tcp://[::1]5555", "the port is missing"),
        ("tcp://10.0.0.256:5555", "no IPv4 address"),
        ("tcp://10.0.0:5555", "no IPv4 address"),
        ("tcp://10.0.0.5 :5555", "no name of a host"),
        ("tcp://a..b:5555", "no name of a host"),
        ("tcp://user@host:5555", "no name of a host"),
        ("tcp://eth0;cloud:5555", "no name of a host"),
        ("tcp://0.0.0.0:5555", "where a server listens"),
        ("10.0.0.5:5555", "tcp:// is missing"),
        ("http://10.0.0.5:5555", "not http://"),
        ("udp://10.0.0.5:5555", "not udp://"),
        ("ipc://", "the path is missing"),
        ("ipc://a\0b", "path"),
        ("ipc:///" + "a" * 200, "107 bytes"),
    ],
)
def test_what_is_wrong_is_said_with_how_it_should_look(text: str, sentence: str) -> None:
    with pytest.raises(EndpointError) as caught:
        parse_endpoint(text)
    said = str(caught.value)
    assert sentence in said and "such as tcp://10.0.0.5:5555" in said
    assert said.isprintable() and len(said) < 400


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.8.9.1:*", True),
        ("tcp://[::1]:5555", True),
        ("tcp://[::ffff:127.0.0.1]:5555", True),
        ("tcp://localhost:5555", True),
        ("tcp://LocalHost:5555", True),
        ("tcp://lo:5555", True),
        ("ipc:///tmp/x", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://*:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://[::ffff:10.0.0.5]:5555", False),
        ("tcp://192.168.1.5:5555", False),
    ],
)
def test_what_other_machines_can_not_reach(text: str, local: bool) -> None:
    assert parse_endpoint(text, listening=True).loopback is local


def test_endpoints_are_named_by_commas() -> None:
    one, two = parse_endpoints(" tcp://a:1, tcp://[::1]:2 ")
    assert (str(one), str(two)) == ("tcp://a:1", "tcp://[::1]:2")
    assert not one.ipv6 and two.ipv6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is empty"),
        ("tcp://a:1,,tcp://b:1", "it is empty"),
        ("tcp://a:1, tcp://a:01", "named twice"),
        ("tcp://a:1, tcp://a", "'tcp://a' is not an endpoint"),
        (",".join(f"tcp://a:{port}" for port in range(1, 10)), "at most 8"),
    ],
)
def test_endpoints_that_make_no_sense_are_explained(text: str, sentence: str) -> None:
    with pytest.raises(EndpointError, match=sentence):
        parse_endpoints(text)


def test_addresses_of_metrics_and_health() -> None:
    assert parse_address("9464") == ("127.0.0.1", 9464)
    assert parse_address(":9464") == ("127.0.0.1", 9464)
    assert parse_address("[::1]:0") == ("::1", 0)
    assert parse_address("0.0.0.0:9464") == ("0.0.0.0", 9464)
    for wrong in ("", "here", "1:2:3", "h:99999", "h:", "::1:5", "*:9464", "tcp://10.0.0.5:9464", "1.2.3:4"):
        with pytest.raises(EndpointError, match=r"such as 127\.0\.0\.1:9464"):
            parse_address(wrong)


@given(st.text(alphabet="tcpi:/[]*.,;%@ 0159af-_\0é５", max_size=40), st.booleans())
@settings(deadline=None, max_examples=500)
def test_any_text_is_an_endpoint_or_one_sentence(tail: str, listening: bool) -> None:
    for text in (tail, f"tcp://{tail}", f"tcp://[::{tail}", f"tcp://10.0.0.5:{tail}"):
        try:
            found = parse_endpoint(text, listening)
        except EndpointError as error:
            assert str(error).isprintable()
        else:
            assert parse_endpoint(str(found), listening) == found
