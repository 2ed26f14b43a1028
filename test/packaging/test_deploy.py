"""What is in deploy/: a container file, a systemd unit and settings that fit the software as it is."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from spec_decode_ros.cli import build_parser, command_names
from spec_decode_ros.extras import EXTRAS
from spec_decode_ros.server.config import SETTINGS
from spec_decode_ros.server.config_sources import CONFIG_VARIABLE, PREFIX, resolve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"}
INSTRUCTIONS |= {"STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}


def container() -> list[tuple[str, str]]:
    """The instructions of the container file and what follows each, with continued lines joined."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def values(name: str) -> list[str]:
    return [rest for instruction, rest in container() if instruction == name]


def copied() -> list[str]:
    """What comes from the source tree."""
    return [source for rest in values("COPY") if "--from" not in rest for source in rest.split()[:-1]]


def test_the_container_file_has_only_instructions_that_exist() -> None:
    assert {name for name, _ in container()} <= INSTRUCTIONS
    assert container()[0][0] == "FROM"
    for name in ("CMD", "ENTRYPOINT", "VOLUME"):
        for rest in values(name):
            assert all(isinstance(word, str) for word in json.loads(rest)), rest
    for rest in values("RUN"):
        assert subprocess.run(["sh", "-n", "-c", rest], timeout=20).returncode == 0, rest


def test_the_container_serves_as_nobody_in_particular_and_says_how_it_is() -> None:
    assert values("USER") == ["10001"]
    assert json.loads(values("ENTRYPOINT")[0]) == ["spec-decode"]
    assert json.loads(values("CMD")[0])[0] in command_names()
    check = json.loads(values("HEALTHCHECK")[0].partition("CMD ")[2])
    assert check[0] == "spec-decode" and check[1] in command_names()
    assert values("STOPSIGNAL") == ["SIGTERM"]


def test_no_registry_is_named() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert "://" not in text
    assert not [image for image in values("FROM") if "." in image.partition(":")[0] or "/" in image]


def test_all_that_the_build_needs_is_copied_and_let_through() -> None:
    missing = [source for source in copied() if not (ROOT / source).exists()]
    assert not missing
    needed = {"setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "constraints.txt"}
    needed |= {"locks", "resource", "launch", "config", "worlds", "spec_decode_ros"}
    assert needed <= set(copied())
    passed = {
        line[1:]
        for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert passed == set(copied())


def test_the_container_installs_what_is_locked_for_its_python() -> None:
    (run,) = (rest for rest in values("RUN") if "pip install" in rest)
    assert "--require-hashes" in run and "locks/container-$(python -c" in run
    version = values("FROM")[0].partition(":")[2].partition("-")[0].replace(".", "")
    assert (ROOT / "locks" / f"container-linux-x86_64-cpython-{version}.txt").exists()


def test_the_container_installs_extras_that_exist() -> None:
    found = re.search(r'"\.\[([\w,]+)\]"', " ".join(values("RUN")))
    assert found
    assert {"cloud", "metrics"} <= set(found[1].split(",")) <= set(EXTRAS)


def test_variables_name_settings() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in SETTINGS} | {CONFIG_VARIABLE}
    for path in DEPLOY.iterdir():
        assert set(re.findall(r"SPEC_DECODE_[A-Z_]+", path.read_text())) <= known, path


@pytest.mark.parametrize(("name", "port"), [("service", 9464), ("balancer", 9465)])
def test_the_settings_are_accepted_and_safe(name: str, port: int) -> None:
    config = resolve({}, {}, DEPLOY / f"{name}.yaml").config
    assert config.keys and not config.insecure
    assert config.metrics_address == ("127.0.0.1", port)
    assert config.log_format == "json"


UNITS = ("spec-decode", "spec-decode-balancer")


def unit(name: str, section: str = "Service") -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / f"{name}.service")
    return parser[section]


def test_the_unit_gives_the_service_time_to_drain() -> None:
    config = resolve({}, {}, DEPLOY / "service.yaml").config
    service = unit("spec-decode")
    assert int(service["TimeoutStopSec"]) >= config.drain_s + 30
    assert int(service["WatchdogSec"]) > config.stuck_s


def test_the_balancers_unit_reads_its_list_again_on_reload() -> None:
    service = unit("spec-decode-balancer")
    assert shlex.split(service["ExecReload"])[1:] == ["-HUP", "$MAINPID"]
    state = f"/var/lib/{service['StateDirectory']}/"
    assert resolve({}, {}, DEPLOY / "balancer.yaml").config.keys.startswith(state)
    words = shlex.split(service["ExecStart"])
    assert words[words.index("--verifier-keys") + 1].startswith(state)


@pytest.mark.parametrize("name", UNITS)
def test_a_service_that_ends_again_and_again_is_never_given_up(name: str) -> None:
    limits = {key: value for key, value in unit(name, "Unit").items() if key.startswith("StartLimit")}
    assert limits == {"StartLimitIntervalSec": "0"}
    assert float(unit(name)["RestartSec"]) >= 1.0


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_there_is_with_few_rights(name: str) -> None:
    service = unit(name)
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/spec-decode") and command in command_names()
    build_parser([command]).parse_args([command, *arguments])
    assert service["Type"] == "notify"
    assert service["KillSignal"] == "SIGTERM"
    assert service["Restart"] == "on-failure"
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["User"] != "root"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt install systemd"
)
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, name: str) -> None:
    program = shutil.which("true")
    text = (DEPLOY / f"{name}.service").read_text()
    copy = tmp_path / f"{name}.service"
    copy.write_text(re.sub(r"(?m)^(ExecStart=)\S+", rf"\g<1>{program}", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60
    )
    if "Failed to initialize" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert f"{name}.service" not in done.stderr, done.stderr
