"""Products with large weights are the same as anybody's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from spec_decode_ros.models import blocked
from spec_decode_ros.models.blocked import product

LARGE, SMALL = (1024, 576), (64, 32)


@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 33])
@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["large", "small"])
def test_it_is_the_product(shape: tuple[int, int], count: int, biased: bool) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(shape), torch.randn(shape[0]) if biased else None
    rows = torch.randn(count, shape[1])
    with torch.inference_mode():
        found = product(weight, bias)(rows)
    assert found.shape == (count, shape[0])
    torch.testing.assert_close(found, F.linear(rows, weight, bias), rtol=1e-4, atol=1e-3)


def test_a_large_weight_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN is there; without it, and for what does not deserve it, the weight stays the only copy."""
    if not blocked._available():
        pytest.skip("this build of torch lacks oneDNN")
    held = {}
    for name, weight in {
        "large": torch.ones(LARGE),
        "small": torch.ones(SMALL),
        "half": torch.ones(LARGE).half(),
    }.items():
        multiply = product(weight)
        weight.zero_()
        held[name] = float(multiply(torch.ones(4, weight.shape[1], dtype=weight.dtype)).sum())
    assert held["large"] == 4 * LARGE[0] * LARGE[1]
    assert held["small"] == held["half"] == 0
    monkeypatch.setattr(blocked, "_available", lambda: False)
    weight = torch.ones(LARGE)
    multiply = product(weight)
    weight.zero_()
    assert float(multiply(torch.ones(4, LARGE[1])).sum()) == 0
