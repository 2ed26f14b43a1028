"""Batches made ahead, and answers over a reduced table."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch

from spec_decode_ros.lab.training.passes import Answers, ahead
from spec_decode_ros.models.reduced import ReducedHead, ReducedLlamaConfig


def test_the_same_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))
    assert list(ahead(iter(()), 3)) == []


def test_an_error_comes_where_it_happened() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = ahead(broken(), 3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_no_thread_is_left_when_enough_was_taken() -> None:
    items = ahead(itertools.count(), 2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    items.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_answers_of_a_reduced_head_are_its_tables_rows() -> None:
    head = ReducedHead(ReducedLlamaConfig(vocab_size=50, hidden_size=8, table_rows=4, table_width=6))
    head.tokens.copy_(torch.tensor([3, 7, 20, 49]))
    answers, hidden = Answers(head), torch.randn(5, 8)
    logits = answers.logits(hidden)
    assert logits.shape == (5, 4)
    assert torch.equal(logits, head(hidden)[:, [3, 7, 20, 49]])
    assert answers.columns(torch.tensor([7, 49, 8])).tolist() == [1, 3, -100]
    assert answers.of(torch.arange(50.0)[None]).tolist() == [[3.0, 7.0, 20.0, 49.0]]


def test_answers_of_a_whole_head_are_all() -> None:
    head = torch.nn.Linear(8, 50, bias=False)
    answers, hidden, tokens = Answers(head), torch.randn(5, 8), torch.tensor([7, 49])
    assert torch.equal(answers.logits(hidden), head(hidden))
    assert answers.columns(tokens) is tokens
