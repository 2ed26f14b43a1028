"""A real Ray of two replicas on this machine: killed, added, removed, while robots act."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from server.acting import Robot

from spec_decode_ros.cli import main
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import BalancerService
from spec_decode_ros.server.fleet.cluster import local_ray
from spec_decode_ros.server.fleet.janitor import users_of
from spec_decode_ros.server.fleet.routing import RoutingPolicy
from spec_decode_ros.server.fleet.scaling import ReplicaPhase
from spec_decode_ros.server.fleet.supervisor import Supervisor
from spec_decode_ros.server.status_server import read_page

from .toy_target import serve_late, serve_nothing, serve_toy

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

WAIT_S = 30.0
PAIR = "tiny"


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


def wait_until(condition: Any) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def serving(supervisor: Supervisor) -> dict[str, int]:
    return {
        replica.endpoint: replica.robots
        for replica in supervisor.status.replicas
        if replica.phase is ReplicaPhase.SERVING
    }


def test_replicas_die_come_and_go_while_robots_act(ray: Any) -> None:
    with service(ray, 2) as (balancer, supervisor), ThreadPoolExecutor(4) as pool:
        methods = ("auto", "cloud", "pipelined", "sync")
        robots = [Robot(pool, balancer.endpoint, f"robot {n}", methods[n], PAIR) for n in range(4)]
        try:
            wait_until(lambda: all(robot.actions or robot.done.done() for robot in robots))
            wait_until(lambda: sorted(serving(supervisor).values()) == [2, 2])

            victim = supervisor.status.replicas[0]
            assert robots[1].mid_action.wait(WAIT_S)
            ray.kill(supervisor._actors[0].actor)
            wait_until(lambda: supervisor.status.failures == 1)
            wait_until(lambda: sorted(serving(supervisor).values()) == [2, 2])
            assert victim.endpoint not in serving(supervisor)

            supervisor.scale(3)
            wait_until(lambda: sorted(serving(supervisor).values()) == [1, 1, 2])
            supervisor.scale(1)
            wait_until(lambda: sorted(serving(supervisor).values()) == [4])
            wait_until(lambda: len(supervisor.status.replicas) == 1)
            so_far = [robot.actions for robot in robots]
            wait_until(
                lambda: all(r.actions > n or r.done.done() for r, n in zip(robots, so_far, strict=True))
            )
        finally:
            for robot in robots:
                robot.stop()
        for robot in robots:
            robot.done.result(WAIT_S)
        assert supervisor.status.failures == 1


def test_what_runs_when_all_is_ended_is_finished(ray: Any) -> None:
    with service(ray, 1) as (balancer, supervisor), ThreadPoolExecutor(1) as pool:
        robot = Robot(pool, balancer.endpoint, "the last robot", pair=PAIR)
        try:
            assert robot.mid_action.wait(WAIT_S)
        finally:
            robot.stop()
        supervisor.stop()
        robot.done.result(WAIT_S)


def test_one_page_has_what_each_replica_counts(ray: Any) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: metrics need it")
    from server.scrape import Samples, samples, scrape

    from spec_decode_ros.server.fleet.balancer_metrics import BalancerMetrics

    with service(ray, 2) as (balancer, supervisor), ThreadPoolExecutor(3) as pool:
        watched = BalancerService(balancer, stuck_s=WAIT_S, with_replicas=True)
        watched.supervisor = supervisor
        with watched.serving(), watched.watched(("127.0.0.1", 0)) as url:
            wait_until(lambda: sum(state.up for state in balancer.last_status.replicas.values()) == 2)
            robots = [Robot(pool, balancer.endpoint, f"robot {n}", pair=PAIR) for n in range(2)]
            try:
                wait_until(lambda: all(robot.actions or robot.done.done() for robot in robots))
            finally:
                for robot in robots:
                    robot.stop()
            for robot in robots:
                robot.done.result(WAIT_S)
            actions = float(sum(robot.actions for robot in robots))

            def done(page: Samples) -> dict[str, float]:
                return page.by("replica", "spec_decode_actions_total")

            def metrics(answer_s: float) -> BalancerMetrics:
                statuses = lambda: balancer.last_status, lambda: True, lambda: supervisor.status
                return BalancerMetrics(*statuses, answer_s=answer_s)

            patient, hasty = metrics(WAIT_S), metrics(0.5)
            wait_until(lambda: sum(done(scrape(url)).values()) >= actions)
            page = samples(patient.collect)
            assert set(done(page)) == {"1", "2"}
            assert page.value("spec_decode_replicas_wanted") == 2
            assert page.by("phase", "spec_decode_replicas") == {"starting": 0, "serving": 2, "leaving": 0}
            assert page.by("replica", "spec_decode_ready") == {"1": 1, "2": 1}
            assert sum(page.by("replica", "spec_decode_pass_seconds_count").values()) >= actions
            assert page.value("process_resident_memory_bytes") > 1e6
            assert set(page.by("replica", "process_resident_memory_bytes")) == {"1", "2"}
            assert page.value("spec_decode_replica_failures_total") == 0
            assert page.value("spec_decode_replica_unanswered_scrapes_total") == 0
            verifiers = set(page.by("verifier", "spec_decode_balancer_verifier_up"))
            assert set(page.by("verifier", "spec_decode_replica_info")) == verifiers

            hanging = supervisor.status.replicas[0].pid
            os.kill(hanging, signal.SIGSTOP)
            try:
                waiting = pool.submit(samples, patient.collect)
                wait_until(lambda: set(samples(hasty.collect).by("replica", "spec_decode_ready")) == {"2"})
                assert samples(hasty.collect).value("spec_decode_replica_unanswered_scrapes_total") >= 2
                assert read_page(f"{url}/healthz", WAIT_S)[0] and read_page(f"{url}/readyz", WAIT_S)[0]
                assert not waiting.done()
            finally:
                os.kill(hanging, signal.SIGCONT)
            assert set(waiting.result(WAIT_S).by("replica", "spec_decode_ready")) == {"1", "2"}


def test_a_replica_that_does_not_start_is_given_up(ray: Any) -> None:
    with Balancer() as balancer, Supervisor(ray, serve_late, balancer, 1, start_s=0.5) as supervisor:
        wait_until(lambda: supervisor.status.failures >= 2)
        with pytest.raises(SpecDecodeError, match=r"does not serve after 0.5 s"):
            supervisor.wait_serving(1, WAIT_S)


def test_why_a_replica_does_not_start_is_reported(ray: Any) -> None:
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
        "from spec_decode_ros.server.fleet.cluster import local_ray\n"
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
def test_the_command_is_watched_and_ends_without_ray_so_that_it_is_started_anew(name: str) -> None:
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: metrics need it")
    from server.scrape import scrape

    command = [sys.executable, "-m", "spec_decode_ros.cli", "replicas", "--device", "cpu", "--threads", "1"]
    command += ["--metrics", "0", "--log-format", "json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as service:
        try:
            assert service.stdout is not None and service.stderr is not None
            first = service.stderr.readline()
            url = json.loads(first)["url"]
            assert service.stdout.readline().startswith("ready")
            wait_until(lambda: main(["health", url, "--ready"]) == 0)
            assert scrape(url).by("replica", "spec_decode_ready") == {"1": 1}
            (victim,) = [child for child in psutil.Process(service.pid).children() if child.name() == name]
            victim.kill()
            _, errors = service.communicate(timeout=WAIT_S)
        finally:
            service.kill()
    assert service.returncode == 1
    assert all("message" in json.loads(line) for line in errors.splitlines())
    assert f"Ray's process {name} has ended" in errors


@pytest.mark.skipif("SPEC_DECODE_LONG" not in os.environ, reason="starts a second Ray: SPEC_DECODE_LONG=1")
def test_a_signal_while_replicas_load_ends_the_command_in_order() -> None:
    command = [sys.executable, "-m", "spec_decode_ros.cli", "replicas", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            while "loading the pair" not in (line := service.stderr.readline()):
                assert line, "it has ended by itself"
            service.terminate()
            _, errors = service.communicate(timeout=WAIT_S)
        finally:
            service.kill()
    assert service.returncode == 0
    assert "SIGTERM" not in errors


def test_one_ray_in_a_process(ray: Any) -> None:
    with pytest.raises(SpecDecodeError, match="runs a Ray already"), local_ray():
        pass


def test_more_gpus_than_there_are_are_refused(ray: Any) -> None:
    with Balancer() as balancer, pytest.raises(SpecDecodeError, match="GPUs for 0 replicas"):
        Supervisor(ray, serve_toy, balancer, 1, gpus=1)
