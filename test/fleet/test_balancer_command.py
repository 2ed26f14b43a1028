"""`spec-decode balance` as an operator runs it: a process, a list that changes, signals."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from transport.test_wire import WAIT_S, connected, echo, eventually

from spec_decode_ros.cli import EXIT_USAGE, main
from spec_decode_ros.decoding.messages import Open, Opened
from spec_decode_ros.transport.process import ReadyChild

COMMAND = [sys.executable, "-m", "spec_decode_ros.cli", "balance"]


def test_the_list_of_verifiers_is_read_again_when_it_is_told(tmp_path: Path) -> None:
    verifiers = tmp_path / "verifiers.txt"
    with echo() as one, echo() as two:
        verifiers.write_text(f"{one.endpoint}  # the first\n")
        child = ReadyChild(
            [*COMMAND, "--list", str(verifiers), "--patience-s", "0.5", "--with-parent"], "balance", 30.0
        )
        try:
            with connected(child.start()) as (client, hears):
                client.wait_ready(WAIT_S)
                client.send(Open(1, "go"))
                assert hears.get(timeout=WAIT_S).message == Opened(1)
                assert one.seen.get(timeout=WAIT_S)[1] == Open(1, "go")

                verifiers.write_text(f"\n# the second\n{two.endpoint}\n")
                os.kill(child.pid, signal.SIGHUP)
                opened = iter(range(2, 1000))

                def moved() -> bool:
                    client.send(Open(next(opened), "go on"))
                    return not two.seen.empty()

                assert eventually(moved)
                os.kill(child.pid, signal.SIGTERM)
                child.wait(WAIT_S)
        finally:
            child.stop()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name at least one verifier"),
        (["nonsense"], "write it as tcp://HOST:PORT"),
        (["tcp://10.0.0.6:99999"], "is no port"),
        (["tcp://127.0.0.1:1", "--bind", "tcp://127.0.0.1:80000"], "is no port"),
        (["--list", "/not/there"], "can't be read"),
        (["tcp://127.0.0.1:1", "--bind", "tcp://0.0.0.0:0"], "--insecure"),
        (["tcp://127.0.0.1:1", "--verifier-keys", "/not/there"], "key folder"),
        (["tcp://127.0.0.1:1", "--patience-s", "-1"], "patience_s"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["balance", *arguments]) == EXIT_USAGE
    assert sentence in capsys.readouterr().err
