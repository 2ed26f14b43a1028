"""Products with large weights are the same as anybody's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.models import onednn as blocked
from spec_decode_ros.models.onednn import product, product_of

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


def _which(shape: tuple[int, int], dtype: torch.dtype, count: int) -> str:
    """Which copy of the weight a product with so many rows reads."""
    weight = torch.ones(shape, dtype=dtype)
    multiply = product(weight)
    weight.zero_()
    return "its own" if bool(multiply(torch.ones(count, shape[1], dtype=dtype)).any()) else "the model's"


def test_where_it_pays_a_weight_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    if not blocked._available():
        pytest.skip("this build of torch lacks oneDNN")
    assert _which(LARGE, torch.float32, 1) == "its own"
    assert _which(SMALL, torch.float32, 100) == "the model's"
    assert _which(LARGE, torch.float16, 100) == "the model's"
    monkeypatch.setattr(blocked, "_available", lambda: False)
    assert _which(LARGE, torch.float32, 100) == "the model's"


def test_modules_that_do_more_than_multiply_stay_as_they_are() -> None:
    class Odd(nn.Linear):
        pass

    plain, odd, hooked = nn.Linear(8, 8), Odd(8, 8), nn.Linear(8, 8)
    hooked.register_forward_hook(lambda *_: None)
    assert product_of(plain) is not plain
    assert product_of(odd) is odd
    assert product_of(hooked) is hooked
    with torch.inference_mode():
        rows = torch.randn(3, 8)
        torch.testing.assert_close(product_of(plain)(rows), plain(rows))
