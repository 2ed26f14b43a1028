"""The methods over the grid, in virtual time."""

from __future__ import annotations

import pytest

from spec_decode_ros.bench.grid import Cell, compare, figures, go2
from spec_decode_ros.decoding.methods import METHODS

OTHERS = ("cloud", "colocated", "sync", "early_exit", "pipelined")


@pytest.mark.parametrize("rtt_ms", [5.0, 60.0, 250.0])
@pytest.mark.parametrize("acceptance", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("ratio", [0.05, 0.25])
def test_auto_is_never_far_from_the_best_and_cost_takes_the_fewest_passes(
    rtt_ms: float, acceptance: float, ratio: float
) -> None:
    row = compare(Cell(rtt_ms, acceptance, ratio), actions=24)
    assert row["auto"].ttva_ms <= 1.05 * min(row[name].ttva_ms for name in OTHERS)
    assert row["auto cost"].passes <= min(row[name].passes for name in OTHERS)


def test_foresight_hides_drafting_behind_the_pass_on_the_published_robot() -> None:
    """Drafting 4 tokens 288 ms, verification 620 ms, communication 120 ms (arXiv 2505.21594)."""
    cell, world = go2(acceptance=0.8)
    sync, early = (figures(METHODS[name], cell, world, actions=40) for name in ("sync", "early_exit"))
    assert early.ttva_ms < 0.89 * sync.ttva_ms
    assert early.foresights_right > 0


def test_the_same_actions_every_time() -> None:
    cell = Cell(20.0, 0.7, 0.1)
    assert figures(METHODS["auto"], cell, actions=5) == figures(METHODS["auto"], cell, actions=5)
