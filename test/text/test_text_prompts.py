"""Prompts that drafts are measured on have nothing in common with those that they learn from but the language."""

from __future__ import annotations

import itertools

from spec_decode_ros.lab.text.prompts import held_out_prompts, training_prompts
from spec_decode_ros.lab.text.templates import FILLINGS, HELD_OUT, HELD_OUT_FILLINGS, TRAINING


def test_no_template_is_on_both_sides() -> None:
    assert len(set(TRAINING)) == len(TRAINING) >= 100
    assert len(set(HELD_OUT)) == len(HELD_OUT) >= 30
    assert not set(TRAINING) & set(HELD_OUT)


def test_held_out_fillings_are_others() -> None:
    for name, fillings in HELD_OUT_FILLINGS.items():
        assert not set(fillings) & set(FILLINGS[name]), name


def test_prompts_are_whole_sentences_and_never_repeated() -> None:
    learned = list(itertools.islice(training_prompts(3), 4000))
    measured = held_out_prompts(300, 3)
    assert len(set(learned)) == 4000
    assert len(set(measured)) == 300
    assert not set(learned) & set(measured)
    for prompt in (*learned, *measured):
        assert "{" not in prompt
        assert "}" not in prompt
        assert not prompt[0].islower()


def test_every_template_is_used() -> None:
    beginnings = {template.split("{")[0].lower() for template in HELD_OUT}
    measured = [prompt.lower() for prompt in held_out_prompts(len(HELD_OUT), 1)]
    assert all(any(prompt.startswith(beginning) for prompt in measured) for beginning in beginnings)


def test_two_blanks_of_a_kind_differ() -> None:
    compared = [p for p in itertools.islice(training_prompts(1), 6000) if p.startswith("Compare ")]
    assert len(compared) > 20
    for prompt in compared:
        one, other = prompt.removeprefix("Compare ").removesuffix(".").split(" and ", 1)
        assert one != other


def test_seed_decides() -> None:
    assert held_out_prompts(20, 1) == held_out_prompts(20, 1) != held_out_prompts(20, 2)
