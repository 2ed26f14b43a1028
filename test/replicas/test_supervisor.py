"""A real Ray of two replicas on this machine: killed, added, removed, while robots act."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from runtime.toys import ToyDrafter, ToyText, target_answer

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replicas.cluster import local_ray
from spec_decode_ros.replicas.janitor import users_of
from spec_decode_ros.replicas.plan import Phase
from spec_decode_ros.replicas.supervisor import Supervisor
from spec_decode_ros.runtime.edge import EdgeRuntime, Progress
from spec_decode_ros.transport.balancer import Balancer
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.routing import RoutingPolicy

from .toy_target import serve_late, serve_nothing, serve_toy

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

WAIT_S = 30.0
PAIR = "tiny"
FRAME = b"\xff\xd8 a frame " + bytes(range(256)) * 20


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # so that replicas find the toys
    try:
        with local_ray() as module:
            yield module
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def service(ray: Any, replicas: int) -> Iterator[tuple[Balancer, Supervisor]]:
    with (
        Balancer(policy=RoutingPolicy(quiet_s=0.2, patience_s=1.0)) as balancer,
        Supervisor(ray, serve_toy, balancer, replicas) as supervisor,
    ):
        supervisor.wait_serving(replicas, WAIT_S)
        yield balancer, supervisor


class Robot:
    """Acts again and again in a thread, every answer compared with the target's."""

    def __init__(self, endpoint: str, name: str, method: str, pool: ThreadPoolExecutor) -> None:
        self.actions = 0
        self.mid_action = threading.Event()
        self._stop = threading.Event()
        self._endpoint, self._name, self._method = endpoint, name, method
        self.done: Future[None] = pool.submit(self._act)

    def stop(self) -> None:
        self._stop.set()

    def _act(self) -> None:
        drafter = ToyDrafter(lambda position: position % 2 == 1, token_s=0.005)
        with (
            Client(self._endpoint, PAIR, ToyText.vocabulary) as client,
            EdgeRuntime(drafter, client, self._method, fallback=False, deadline_s=WAIT_S) as edge,
        ):
            client.wait_ready(WAIT_S)
            while not self._stop.is_set():
                prompt = f"{self._name}, action {self.actions}"
                result = edge.act(prompt, [FRAME], on_event=self._on_event)
                self.mid_action.clear()
                assert result.verified and result.tokens == target_answer(prompt, [FRAME])
                self.actions += 1

    def _on_event(self, progress: Progress) -> None:
        if progress.committed >= 2:
            self.mid_action.set()


def wait_until(condition: Any) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def serving(supervisor: Supervisor) -> dict[str, int]:
    return {row.endpoint: row.robots for row in supervisor.rows if row.phase is Phase.SERVING}


def test_replicas_die_come_and_go_while_robots_act(ray: Any) -> None:
    with service(ray, 2) as (balancer, supervisor), ThreadPoolExecutor(4) as pool:
        methods = ("auto", "cloud", "pipelined", "sync")
        robots = [Robot(balancer.endpoint, f"robot {n}", methods[n], pool) for n in range(4)]
        try:
            wait_until(lambda: all(robot.actions or robot.done.done() for robot in robots))
            wait_until(lambda: sorted(serving(supervisor).values()) == [2, 2])

            victim = supervisor.rows[0]
            assert robots[1].mid_action.wait(WAIT_S)
            ray.kill(supervisor._entries[0].actor)
            wait_until(lambda: supervisor.deaths == 1)
            wait_until(lambda: sorted(serving(supervisor).values()) == [2, 2])
            assert victim.endpoint not in serving(supervisor)

            supervisor.scale(3)
            wait_until(lambda: sorted(serving(supervisor).values()) == [1, 1, 2])
            supervisor.scale(1)
            wait_until(lambda: sorted(serving(supervisor).values()) == [4])
            wait_until(lambda: len(supervisor.rows) == 1)
            so_far = [robot.actions for robot in robots]
            wait_until(
                lambda: all(r.actions > n or r.done.done() for r, n in zip(robots, so_far, strict=True))
            )
        finally:
            for robot in robots:
                robot.stop()
        for robot in robots:
            robot.done.result(WAIT_S)
        assert supervisor.deaths == 1


def test_what_runs_when_all_is_ended_is_finished(ray: Any) -> None:
    with service(ray, 1) as (balancer, supervisor), ThreadPoolExecutor(1) as pool:
        robot = Robot(balancer.endpoint, "the last robot", "cloud", pool)
        try:
            assert robot.mid_action.wait(WAIT_S)
        finally:
            robot.stop()
        supervisor.stop()
        robot.done.result(WAIT_S)


def test_one_that_does_not_come_up_is_given_up(ray: Any) -> None:
    with Balancer() as balancer, Supervisor(ray, serve_late, balancer, 1, start_s=0.5) as supervisor:
        wait_until(lambda: supervisor.deaths >= 2)
        with pytest.raises(SpecDecodeError, match=r"does not serve after 0.5 s"):
            supervisor.wait_serving(1, WAIT_S)


def test_what_cannot_be_loaded_is_told_in_its_own_words(ray: Any) -> None:
    with (
        Balancer() as balancer,
        Supervisor(ray, serve_nothing, balancer, 1) as supervisor,
        pytest.raises(SpecDecodeError, match="does not start: the checkpoint is not there"),
    ):
        supervisor.wait_serving(1, WAIT_S)


def test_ray_listens_on_the_loopback_address_only(ray: Any) -> None:
    psutil = pytest.importorskip("psutil")
    here, ports = psutil.Process(), []
    for process in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = process.net_connections("tcp")
            ports += [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    assert len(ports) >= 4
    assert {address.ip.removeprefix("::ffff:") for address in ports} == {"127.0.0.1"}


@pytest.mark.skipif("SPEC_DECODE_LONG" not in os.environ, reason="starts a second Ray: SPEC_DECODE_LONG=1")
def test_a_ray_whose_owner_is_killed_leaves_nothing(ray: Any) -> None:
    program = (
        "import sys\n"
        "from spec_decode_ros.replicas.cluster import local_ray\n"
        "with local_ray() as ray:\n"
        "    print(ray._private.worker._global_node.get_temp_dir_path(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip()).parent
        assert folder.stat().st_mode & 0o077 == 0
        assert len(list(users_of(str(folder)))) > 3
        owner.kill()
    wait_until(lambda: not folder.exists())
    assert not list(users_of(str(folder)))


@pytest.mark.skipif("SPEC_DECODE_LONG" not in os.environ, reason="starts a second Ray: SPEC_DECODE_LONG=1")
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_without_ray_the_command_ends_so_that_it_is_started_anew(name: str) -> None:
    psutil = pytest.importorskip("psutil")
    command = [sys.executable, "-m", "spec_decode_ros.cli", "replicas", "--device", "cpu", "--threads", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as service:
        try:
            assert service.stdout is not None and service.stdout.readline().startswith("ready")
            (victim,) = [child for child in psutil.Process(service.pid).children() if child.name() == name]
            victim.kill()
            _, said = service.communicate(timeout=WAIT_S)
        finally:
            service.kill()
    assert service.returncode == 1
    assert f"Ray's process {name} has ended" in said


def test_one_ray_in_a_process(ray: Any) -> None:
    with pytest.raises(SpecDecodeError, match="runs a Ray already"), local_ray():
        pass


def test_more_gpus_than_there_are_are_refused(ray: Any) -> None:
    with Balancer() as balancer, pytest.raises(SpecDecodeError, match="GPUs for 0 replicas"):
        Supervisor(ray, serve_toy, balancer, 1, gpus=1)
