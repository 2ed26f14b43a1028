from __future__ import annotations

import numpy as np
import pytest

from spec_decode_ros.decoding.messages import (
    Close,
    Committed,
    Draft,
    Open,
    Opened,
    Sampling,
    TokenOutcome,
    Welcome,
)
from spec_decode_ros.errors import SpecDecodeError


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sampling(temperature=-0.1),
        lambda: Sampling(temperature=float("nan")),
        lambda: Sampling(top_k=-1),
        lambda: Sampling(top_p=0.0),
        lambda: Sampling(top_p=1.1),
        lambda: Sampling(seed=-1),
        lambda: Sampling(seed=2**64),
        lambda: Open(0, "p"),
        lambda: Open(1, "p", images=-1),
        lambda: Open(1, "p", max_tokens=0),
        lambda: Open(1, "p", patience_ms=float("inf")),
        lambda: Open(1, "p", draft=(1.5,)),
        lambda: Draft(1, -1),
        lambda: Draft(1, 0, (-1,)),
        lambda: Draft(1, 0, ("a",)),
        lambda: Draft(1, 0, (True,)),
        lambda: Draft(1, 0, (2**31,)),
        lambda: Draft(1, 0, round=0),
        lambda: Sampling(sampler="dice"),
        lambda: Draft(1, 0, (1, 2), probabilities=(0.5,)),
        lambda: Draft(1, 0, (1,), probabilities=(0.0,)),
        lambda: Draft(1, 0, (1,), probabilities=(float("nan"),)),
        lambda: Draft(1, 0, (1,), settled=2),
        lambda: Draft(1, 0, (1,), settled=-1),
        lambda: Open(1, "p", draft=(1,), settled=2),
        lambda: Close(-3),
        lambda: Opened(0),
        lambda: Welcome(1, "tiny", "abc", eos=(-2,)),
        lambda: Committed(1, 0, (5,), ()),
        lambda: Committed(1, 0, (5,), (9,)),
        lambda: Committed(1, -1),
    ],
)
def test_a_message_that_means_nothing_cannot_be_made(make) -> None:
    with pytest.raises(SpecDecodeError):
        make()


def test_numbers_of_any_integer_type_become_plain_ones() -> None:
    message = Draft(1, 0, np.array([3, 4]))
    assert message == Draft(1, 0, (3, 4))
    assert all(type(token) is int for token in message.tokens)
    assert Committed(1, 0, (5,), (1,)).outcomes == (TokenOutcome.RECOVERED,)


def test_fates_have_the_names_that_are_reported() -> None:
    assert [outcome.label for outcome in TokenOutcome] == ["accepted", "recovered", "bonus", "unverified"]
