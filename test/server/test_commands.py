"""`spec-decode serve` and `spec-decode generate` as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spec_decode_ros import cli
from spec_decode_ros.server.process import spawn_server
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.process import ChildError

from .test_real_models import tiny_checkpoints

WAIT_S = 120.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    tiny_checkpoints().make_qwen2_vl_pair(folder)
    (folder / "frame.jpg").write_bytes(tiny_checkpoints().jpeg(1))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path):
    with spawn_server(str(folder / "pair.yaml"), threads=1, timeout_s=WAIT_S) as endpoint:
        yield endpoint


def spec_decode(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command, in this process: loading torch takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def generate(folder: Path, *arguments: str) -> dict:
    common = ["--pair", str(folder / "pair.yaml"), "--image", str(folder / "frame.jpg"), "--json", "-"]
    code, out, err = spec_decode("generate", *common, "--instruction", "go to the red chair", *arguments)
    assert code == 0, err
    return json.loads(out)


def test_generate_says_the_same_with_every_method_and_any_round_trip_time(folder: Path, server: str) -> None:
    cloud = generate(folder, "--endpoint", server, "--method", "cloud")
    auto = generate(folder, "--endpoint", server, "--method", "auto", "--rtt-ms", "30")
    assert cloud["tokens"] == auto["tokens"]
    assert cloud["verified"] and auto["verified"]
    assert auto["stats"]["ttva_ms"] >= 30
    assert {"text", "action", "stats"} <= cloud.keys()


def test_generate_starts_a_server_of_its_own(folder: Path, server: str) -> None:
    arguments = ("--temperature", "0.9", "--seed", "5")
    own = generate(folder, *arguments)
    assert own["verified"]
    assert own["tokens"] == generate(folder, "--endpoint", server, "--method", "cloud", *arguments)["tokens"]


def test_generate_for_people_names_the_text_and_the_numbers(
    folder: Path, server: str, tmp_path: Path
) -> None:
    files = ["--image", str(folder / "frame.jpg"), "--json", str(tmp_path / "out" / "result.json")]
    command = [
        "generate",
        "--pair",
        str(folder / "pair.yaml"),
        "--endpoint",
        server,
        "--instruction",
        "go",
        *files,
    ]
    code, out, _ = spec_decode(*command)
    assert code == 0
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert out.splitlines()[0] == document["text"]
    assert "verified by the target" in out and "ttva_ms" in out


def test_generate_takes_any_prompt_without_an_image(folder: Path, server: str) -> None:
    arguments = ["--pair", str(folder / "pair.yaml"), "--endpoint", server, "--json", "-"]
    code, out, _ = spec_decode("generate", "--prompt", "turn left", "--max-tokens", "5", *arguments)
    assert code == 0
    document = json.loads(out)
    assert 1 <= len(document["tokens"]) <= 5
    assert document["action"] is None and document["prompt"] == "turn left"


def test_generate_on_the_edge_alone_is_unverified(folder: Path) -> None:
    edge = generate(folder, "--method", "edge")
    assert edge["tokens"] and not edge["verified"]
    assert edge["stats"]["cloud_passes"] == 0


def test_generate_refuses_wrong_use_with_one_sentence(folder: Path, tmp_path: Path) -> None:
    pair = ["--pair", str(folder / "pair.yaml")]
    (tmp_path / "text.jpg").write_text("no picture")
    for arguments, sentence in (
        (["--instruction", "go"], "--image FILE"),
        (["--instruction", "go", "--image", str(tmp_path / "none.jpg")], "can't be read"),
        (["--instruction", "go", "--image", str(tmp_path / "text.jpg")], "no readable picture"),
        (["--prompt", "go", "--temperature", "-1"], "temperature"),
    ):
        code, out, err = spec_decode("generate", *pair, *arguments)
        assert code == 2
        assert sentence in err and len(err.splitlines()) == 1
        assert not out


def test_a_server_of_another_pair_is_refused(server: str) -> None:
    with (
        Client(server, "tiny", "words") as client,
        pytest.raises(ValueError, match="pair 'tiny' and the cloud 'random'"),
    ):
        client.wait_ready(WAIT_S)


def test_serve_with_keys_lets_only_robots_with_keys_in_and_ends_on_a_signal(
    folder: Path, tmp_path: Path
) -> None:
    serve = ["serve", "--pair", str(folder / "pair.yaml"), "--keys", str(tmp_path), "--threads", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "spec_decode_ros.cli", *serve],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert child.stdout is not None
        ready, endpoint = child.stdout.readline().split()
        assert ready == "ready" and endpoint.startswith("tcp://127.0.0.1:")
        with (
            Client(endpoint, "tiny", "words") as client,
            pytest.raises(ValueError, match="do not agree on encryption"),
        ):
            client.wait_ready(1.0)
        let_in = generate(folder, "--endpoint", endpoint, "--keys", str(tmp_path / "robot"))
        assert let_in["verified"]
        child.send_signal(signal.SIGINT)
        assert child.wait(30.0) == 0
    finally:
        child.kill()
        child.wait(10.0)


def test_a_server_ends_with_its_parent(folder: Path) -> None:
    program = (
        "import sys, time; from spec_decode_ros.server.process import spawn_server\n"
        f"with spawn_server({str(folder / 'pair.yaml')!r}, threads=1) as endpoint:\n"
        "    print(endpoint, flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert parent.stdout is not None
        endpoint = parent.stdout.readline().strip()
        with Client(endpoint, "tiny", "words") as client, pytest.raises(ValueError, match="Refused"):
            client.wait_ready(30.0)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10.0)
        for _ in range(20):
            with Client(endpoint, "tiny", "words") as client, pytest.raises(ValueError) as caught:
                client.wait_ready(1.0)
            if "No verifier answered" in str(caught.value):
                break
        assert "No verifier answered" in str(caught.value)
    finally:
        parent.kill()
        parent.wait(10.0)


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ChildError, match="There is no pair 'nonsense'"),
        spawn_server("nonsense", timeout_s=WAIT_S),
    ):
        pass
