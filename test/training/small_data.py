"""What the fixtures and the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

COUNT, SEED = 40, 5


class InThisProcess:
    """Stands in for a pool of processes, which take seconds to start."""

    def __init__(self, workers: int, mp_context: object = None):
        assert workers >= 1

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future
