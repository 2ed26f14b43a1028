"""The real planner node in a thread of the test, with models that know the right plan of each sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from spec_decode_ros.edge.outcome import ActionResult
from spec_decode_ros.nodes import planner_node


class KnowingModels:
    """Stands where :class:`~spec_decode_ros.edge.stack.EdgeStack` stands; `plans` are by the sentence in lower case."""

    client = alone = sampling = None
    style, pair, method, eos_ids = "trained", "knowing", "auto", frozenset({0})

    def __init__(self, plans: Mapping[str, str]) -> None:
        self._plans, self._words = plans, [""]
        self.runtime = SimpleNamespace(act=self._act)

    def _act(self, prompt: str, **_: Any) -> ActionResult:
        text = self._plans[prompt.strip()]
        self._words.append(text)
        tokens, outcomes = (len(self._words) - 1, 0), ("bonus", "bonus")
        return ActionResult(
            tokens, text, True, True, outcomes, {"total_ms": 1.0, "target_fingerprint": None}, ()
        )

    def decode(self, tokens: tuple[int, ...]) -> str:
        return "".join(self._words[token] for token in tokens)

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def planner(domain: int, plans: Mapping[str, str]) -> Iterator[None]:
    """A planner node on a ROS domain."""
    lowered = {sentence.lower(): plan for sentence, plan in plans.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner_node, "EdgeStack", lambda settings: KnowingModels(lowered))
        rclpy.init(domain_id=domain)
        node = planner_node.PlannerNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
        node.close()
        executor.shutdown(timeout_sec=5.0)
        node.destroy_node()
        rclpy.try_shutdown()
