"""Methods are compared on the same frames, in alternating order, by medians that are computed right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench import comparison as module
from spec_decode_ros.lab.bench.comparison import (
    ComparisonPlan,
    MethodComparison,
    Sample,
    Spread,
    compare,
    early_exit_hits,
    speedup,
)


def result(tokens: Sequence[int] = (1, 2), **stats: float | None) -> ActionResult:
    everything = dict.fromkeys(METRICS) | stats
    return ActionResult(tuple(tokens), "text", True, True, ("accepted",) * len(tokens), everything, ())


class Codec:
    """Stands for a drafter: only its text side is used."""

    eos_ids = frozenset({9})

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, tuple[int, ...], int]]:
    """What was decoded, in order: method, prompt, last tokens, seed."""
    made: list[tuple[str, str, tuple[int, ...], int]] = []

    class Runtime:
        def __init__(self, drafter, client, name, **_):
            self.name = name

        def act(self, prompt, images, last=(), sampling=None):
            made.append((self.name, prompt, last, sampling.seed))
            return result(ttva_ms=100.0 if self.name == "cloud" else 50.0)

        def close(self):
            made.append((self.name, "closed", (), 0))

    monkeypatch.setattr(module, "EdgeRuntime", Runtime)
    return made


SAMPLES = [Sample(b"a", "go", None), Sample(b"b", "go", "vx 0.4 wz"), Sample(b"c", "go", "vx 0.4 wz")]


def test_the_order_alternates_and_every_method_sees_every_sample(calls):
    compared = compare(SAMPLES, Codec(), None, ComparisonPlan(warm_up=0))
    acts = [call for call in calls if call[1] != "closed"]
    assert [name for name, *_ in acts] == ["cloud", "auto", "auto", "cloud", "cloud", "auto"]
    assert [len(results) for results in compared.results.values()] == [3, 3]
    assert len(calls) - len(acts) == 2, "every runtime is closed"


def test_the_last_action_is_in_the_prompt_and_is_a_draft(calls):
    compare(SAMPLES[:2], Codec(), None, ComparisonPlan(("auto",), warm_up=0))
    assert calls[0][1:3] == ("go | last none", ())
    assert calls[1][1:3] == ("go | last vx 0.4 wz", (2, 3, 2, 9))


def test_every_sample_has_a_seed_of_its_own_and_every_method_the_same(calls):
    compare(SAMPLES, Codec(), None, ComparisonPlan(warm_up=0, sampling=Sampling(1.0, seed=7)))
    seeds = [seed for _, prompt, _, seed in calls if prompt != "closed"]
    assert seeds[::2] == seeds[1::2] and len(set(seeds)) == 3


def test_warm_up_is_not_measured_and_enough_is_enough(calls):
    compared = compare(SAMPLES, Codec(), None, ComparisonPlan(warm_up=2), enough=lambda: True)
    assert [len(results) for results in compared.results.values()] == [1, 1]
    assert len(compared.samples) == 1
    assert len([call for call in calls if call[1] != "closed"]) == 2 * 2 + 2


def test_no_frame_is_refused():
    with pytest.raises(SpecDecodeError, match="at least one frame"):
        compare([], Codec(), None, ComparisonPlan())


def test_median_and_quartiles():
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0)
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)


@pytest.fixture
def compared() -> MethodComparison:
    slow = [result((1, 2), ttva_ms=t, cloud_passes=10, cloud_busy_ms=20.0) for t in (90.0, 100.0, 300.0)]
    fast = [
        result((1, n), ttva_ms=t, cloud_passes=1, cloud_busy_ms=5.0)
        for n, t in ((2, 55.0), (2, 50.0), (3, 45.0))
    ]
    return MethodComparison(SAMPLES, {"cloud": slow, "auto": fast})


def test_numbers_that_do_not_apply_stay_empty(compared: MethodComparison):
    assert compared.spread("cloud", "acceptance_rate") is None
    table = compared.as_dict()
    assert table["cloud"]["acceptance_rate"] is None
    assert table["cloud"]["ttva_ms"] == {"median": 100.0, "p25": 95.0, "p75": 200.0}
    assert set(table["auto"]) == {*METRICS, "capacity"}


def test_capacity_is_one_period_of_compute_shared(compared: MethodComparison):
    capacity = compared.spread("auto", "capacity")
    assert capacity is not None
    assert capacity.median == pytest.approx(1000 / 3 / 5.0)
    assert compared.spread("cloud", "capacity").median == pytest.approx(1000 / 3 / 20.0)


def test_agreement_typical_frame_and_ratios(compared: MethodComparison):
    assert compared.agreement("cloud", "auto") == 2
    assert compared.typical() == 1
    assert speedup(compared, "cloud", "auto") == {"ttva": 2.0, "cloud_passes": 10.0, "cloud_busy": 4.0}


def test_early_exit_hits_are_counted_for_methods_with_predictions():
    told = [
        result(predictions=n, prediction_hits=1, preemptive_saved_ms=4.0, preemptive_wasted_ms=n)
        for n in (1, 3)
    ]
    compared = MethodComparison(SAMPLES[:2], {"sync": [result(predictions=0), result()], "early_exit": told})
    assert early_exit_hits(compared) == {
        "early_exit": {"predictions": 4.0, "hit_rate": 0.5, "saved_ms": 8.0, "wasted_ms": 4.0}
    }
