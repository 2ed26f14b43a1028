"""A local Ray for this process, closed to all others.

Ray runs whatever code it is sent. So it listens on the loopback address only, demands a token that no other program
knows, keeps its files in a folder of its own, reports no usage, and receives only this project's configuration.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence
from spec_decode_ros.server.fleet.janitor import temporary_folder

_STORE_BYTES = 100_000_000
_LOOPBACK = "127.0.0.1"
_NEEDED = ("gcs_server", "raylet")
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name: without it Ray replaces the loopback address by that of a network interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
_ray: Any = None


@contextlib.contextmanager
def local_ray(log: bool = False, prefix: bool = True) -> Iterator[Any]:
    """Start a Ray for this process and its children, and end it with the context; yields the module.

    Args:
        log: print what its processes log, to standard error.
        prefix: begin each line with the process that it is from; has an effect on the first Ray of a process only.

    Raises:
        SpecDecodeError: Ray is not installed, is running in this process already, or does not start.
    """
    with (
        temporary_folder("spec-decode-ray-") as folder,  # what Ray makes in it can be read by others
        _environment({**_ENVIRONMENT, "RAY_DISABLE_WORKER_LOG_PREFIX": "0" if prefix else "1"}),
    ):
        ray = _import_ray()
        if ray.is_initialized():
            raise SpecDecodeError("This process runs a Ray already: end that one first.")
        _start(ray, f"{folder}/r", log)  # a short path: Ray's sockets are in it
        try:
            yield ray
        finally:
            ray.shutdown()


def ended_process(ray: Any) -> str:
    """The name of a process that this Ray can't do without and that has ended; empty if there is none.

    Ray itself would report for long that all is well, or not answer at all.
    """
    node = ray._private.worker._global_node
    return next((kind for kind, _ in node.dead_processes() if kind in _NEEDED), "")


def _import_ray() -> Any:
    """Ray, which reads some of its environment only when it is imported."""
    global _ray
    if _ray is None:
        if "ray" in sys.modules:
            raise SpecDecodeError(
                "Ray was imported before its replicas were asked for, and would listen to other machines: start them in a "
                "process that has not imported it."
            )
        try:
            _ray = importlib.import_module("ray")
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise SpecDecodeError(missing_module_sentence("ray") or str(error)) from error
    return _ray


def _start(ray: Any, folder: str, log: bool) -> None:
    try:
        ray.init(
            num_cpus=1,  # replicas ask for GPUs only; Ray keeps an idle process ready for each of these
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            log_to_driver=log,
            logging_level=logging.WARNING,
            _node_ip_address=_LOOPBACK,
            _temp_dir=folder,
        )
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise SpecDecodeError(f"Ray does not start: {' '.join(str(error).split())[:500]}") from error
    address = ray.util.get_node_ip_address()
    if address != _LOOPBACK:
        ray.shutdown()
        raise SpecDecodeError(
            f"This version of Ray listens at {address} although it was told not to: install 'ray==2.60.*'."
        )


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
