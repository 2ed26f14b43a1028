"""A robot that acts again and again in a thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from spec_decode_ros.edge.runtime import EdgeRuntime, Progress
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.keys import RobotKeys

from .toys import ToyDrafter, ToyText, target_answer

WAIT_S = 30.0
FRAME = b"\xff\xd8 a frame " + bytes(range(256)) * 20


class Robot:
    """Every answer is compared with the target's; `done` has what went wrong, if anything did."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        endpoint: str,
        name: str,
        method: str = "cloud",
        pair: str = "toy",
        keys: RobotKeys | None = None,
    ) -> None:
        self.actions = 0
        self.mid_action = threading.Event()
        self._stop = threading.Event()
        self._name, self._method = name, method
        self._client = Client(endpoint, pair, ToyText.vocabulary, keys=keys)
        self.done: Future[None] = pool.submit(self._act)

    def stop(self) -> None:
        self._stop.set()

    def _act(self) -> None:
        drafter = ToyDrafter(lambda position: position % 2 == 1, token_s=0.005)
        with (
            self._client as client,
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
