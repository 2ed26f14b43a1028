"""Settings of a service: which values there are, which source wins, and what is said about slips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.config import SETTINGS, ServiceConfig
from spec_decode_ros.server.config_sources import COMMAND_LINE, DEFAULT, resolve


def written(folder: Path, **values: Any) -> Path:
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_without_any_source_there_are_defaults_that_reach_this_machine_only() -> None:
    resolved = resolve({}, {})
    assert resolved.config == ServiceConfig()
    assert resolved.config.bind.startswith("tcp://127.0.0.1:")
    assert resolved.config.metrics_address is None
    assert set(resolved.origins.values()) == {DEFAULT}


def test_later_sources_win(tmp_path: Path) -> None:
    file = written(tmp_path, max_sessions=1, drain_s=2, expire_s=3.5, log_level="error")
    environment = {
        "SPEC_DECODE_MAX_SESSIONS": "10",
        "SPEC_DECODE_DRAIN_S": "20",
        "SPEC_DECODE_CONFIG": str(file),
        "HOME": "/",
    }
    resolved = resolve({"max_sessions": "100"}, environment)
    assert resolved.config == ServiceConfig(max_sessions=100, drain_s=20.0, expire_s=3.5, log_level="error")
    assert resolved.origins["max_sessions"] == COMMAND_LINE
    assert resolved.origins["drain_s"] == "environment SPEC_DECODE_DRAIN_S"
    assert resolved.origins["expire_s"] == str(file)
    assert resolved.origins["pair"] == DEFAULT


def test_a_file_that_is_named_wins_over_one_in_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, threads=3)
    assert resolve({}, {"SPEC_DECODE_CONFIG": "/nowhere.yaml"}, file).config.threads == 3


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    given = {"keys": "/etc/keys: #1", "bind": "tcp://*:5555", "insecure": True, "metrics": "9464"}
    before = resolve(given, {"SPEC_DECODE_TREE_NODES": "8"})
    path = tmp_path / "printed.yaml"
    path.write_text(before.as_yaml())
    assert resolve({}, {}, path).config == before.config


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert resolve({}, {}, path).config == ServiceConfig()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_session": 1}, "did you mean 'max_sessions'"),
        ({"colour": "red"}, "there are pair, bind"),
        ({"max_sessions": "many"}, "max_sessions must be a whole number, not 'many'"),
        ({"max_sessions": 0}, "from 1 to 100000, not 0"),
        ({"max_sessions": True}, "a whole number, not True"),
        ({"expire_s": float("nan")}, "expire_s must be from"),
        ({"insecure": "yes"}, "insecure must be true or false"),
        ({"pair": None}, "pair must be text"),
        ({"log_format": "xml"}, "one of text, json, not 'xml'"),
        ({"dtype": "float8"}, "one of empty, auto"),
    ],
)
def test_a_slip_in_a_file_is_one_sentence_that_names_the_file(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    path = written(tmp_path, **values)
    with pytest.raises(SpecDecodeError) as caught:
        resolve({}, {}, path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["- pair", "pair: [", "\x00"])
def test_a_file_that_holds_no_settings_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(SpecDecodeError, match=r"broken\.yaml"):
        resolve({}, {}, path)
    with pytest.raises(SpecDecodeError, match="cannot be read"):
        resolve({}, {}, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("SPEC_DECODE_BINDD", "tcp://127.0.0.1:1", "did you mean SPEC_DECODE_BIND?"),
        ("SPEC_DECODE_THREADS", "two", "environment SPEC_DECODE_THREADS: threads must be a whole number"),
        ("SPEC_DECODE_INSECURE", "maybe", "insecure must be true or false"),
    ],
)
def test_a_slip_in_the_environment_is_one_sentence(variable: str, text: str, words: str) -> None:
    with pytest.raises(SpecDecodeError) as caught:
        resolve({}, {variable: text})
    assert words in str(caught.value)


def test_variables_of_other_parts_are_left_alone() -> None:
    assert resolve({}, {"SPEC_DECODE_SCENES": "200", "SPEC_DECODE_INSECURE": "On"}).config.insecure


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bind": "0.0.0.0:5555"}, "bind: '0.0.0.0:5555' is not an endpoint: tcp:// is missing"),
        ({"bind": "tcp://127.0.0.1:80000"}, "80000' is no port"),
        ({"bind": "tcp://127.0.0.1"}, "the port is missing"),
        ({"bind": "tcp://[::]:5555"}, "--keys"),
        ({"bind": "tcp://0.0.0.0:5555"}, "--keys"),
        ({"bind": "tcp://*:5555"}, "--insecure"),
        ({"device": "gpu"}, "cuda:<number>"),
        ({"metrics": "127.0.0.1"}, "HOST:PORT"),
        ({"metrics": "127.0.0.1:99999"}, "HOST:PORT"),
    ],
)
def test_values_that_cannot_work_are_told_before_anything_is_loaded(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecDecodeError) as caught:
        ServiceConfig(**values)
    assert words in str(caught.value)


def test_the_world_may_come_in_with_keys_or_by_order() -> None:
    for more in ({"keys": "keys"}, {"insecure": True}):
        assert ServiceConfig(bind="tcp://0.0.0.0:5555", **more).bind == "tcp://0.0.0.0:5555"


@pytest.mark.parametrize(
    ("metrics", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_metrics_are_for_this_machine_unless_a_host_is_named(metrics: str, address: tuple[str, int]) -> None:
    assert ServiceConfig(metrics=metrics).metrics_address == address


def test_every_setting_says_what_it_means_and_takes_its_default() -> None:
    for setting in SETTINGS.values():
        assert len(setting.meaning) > 10
        assert setting.read(str(setting.default)) == setting.default
        assert setting.option.startswith("--") and "_" not in setting.option
