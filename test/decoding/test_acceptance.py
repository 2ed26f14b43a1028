from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.decoding.acceptance import AcceptanceAverage, accepted_length, judge, until_end
from spec_decode_ros.decoding.draft_choice import ReceivedDraft, best_continuation, exact_continuation
from spec_decode_ros.decoding.messages import TokenOutcome

EOS = {0}
tokens = st.lists(st.integers(0, 4), max_size=8)


@pytest.mark.parametrize(
    ("draft", "choices", "length"),
    [((), (7,), 0), ((1, 2), (1, 2, 3), 2), ((1, 2), (1, 3, 3), 1), ((1, 2), (2, 2, 3), 0)],
)
def test_the_longest_common_beginning_is_accepted(draft, choices, length) -> None:
    assert accepted_length(draft, choices) == length


def test_a_verdict_says_where_each_token_came_from() -> None:
    accepted, corrected, added = TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED, TokenOutcome.BONUS
    assert judge((), (5,), EOS, 9).outcomes == (added,)
    assert judge((5, 6), (5, 6, 7), EOS, 9).outcomes == (accepted, accepted, added)
    verdict = judge((5, 6, 7), (5, 8, 9, 9), EOS, 9)
    assert (verdict.tokens, verdict.outcomes, verdict.done) == ((5, 8), (accepted, corrected), False)


def test_the_answer_ends_at_an_end_token_and_when_the_room_is_used() -> None:
    verdict = judge((5, 0, 6), (5, 0, 6, 7), EOS, 9)
    assert (verdict.tokens, verdict.done) == ((5, 0), True)
    assert verdict.outcomes == (TokenOutcome.ACCEPTED, TokenOutcome.ACCEPTED)
    verdict = judge((5, 6), (5, 0, 7), EOS, 9)
    assert (verdict.tokens, verdict.outcomes[-1], verdict.done) == ((5, 0), TokenOutcome.RECOVERED, True)
    verdict = judge((5, 6), (5, 6, 7), EOS, 2)
    assert (verdict.tokens, verdict.done) == ((5, 6), True)


def test_a_pass_with_the_wrong_number_of_choices_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 draft tokens has 3 choices, not 2"):
        judge((1, 2), (1, 2), EOS, 9)


@given(tokens, tokens, st.integers(1, 9))
def test_a_verdict_always_moves_on_and_never_past_its_bounds(draft, other, room) -> None:
    choices = [*(other + [1] * 9)[: len(draft)], 2]
    verdict = judge(draft, choices, EOS, room)
    assert 1 <= len(verdict.tokens) == len(verdict.outcomes) <= min(room, len(draft) + 1)
    assert list(verdict.tokens) == choices[: len(verdict.tokens)]
    assert all(token not in EOS for token in verdict.tokens[:-1])


def test_tokens_after_the_end_are_ignored() -> None:
    assert until_end((3, 0, 4, 0), EOS) == (3, 0)
    assert until_end((3, 4), EOS) == (3, 4)
    assert until_end((), EOS) == ()


def test_only_an_agreeing_hint_goes_on_exactly() -> None:
    answer = (1, 2, 3)
    assert exact_continuation(
        [ReceivedDraft(0, (1, 2, 3, 4)), ReceivedDraft(2, (3, 4, 5)), ReceivedDraft(0, (1, 9, 3, 4, 5, 6))],
        answer,
    ) == (
        4,
        5,
    )
    assert exact_continuation([ReceivedDraft(3, (8,))], answer) == (8,)
    assert exact_continuation([ReceivedDraft(0, (1, 2))], answer) == ()  # behind
    assert exact_continuation([ReceivedDraft(4, (8,))], answer) == ()  # not there yet


def test_what_a_corrected_hint_says_about_later_places_is_still_a_guess() -> None:
    assert best_continuation([ReceivedDraft(0, (1, 9, 3, 4))], (1, 2)) == (3, 4)


def test_a_hint_that_misses_twice_in_a_row_is_lost_until_it_hits_again() -> None:
    hint = ReceivedDraft(0, (1, 9, 9, 4, 5))
    assert best_continuation([hint], (1, 2, 3)) == ()
    assert best_continuation([hint], (1, 2, 3, 4)) == (5,)


def test_an_agreeing_hint_goes_before_a_corrected_one_and_a_newer_before_an_older() -> None:
    corrected, older, newer = ReceivedDraft(0, (9, 2, 7)), ReceivedDraft(0, (1, 2, 5)), ReceivedDraft(2, (6,))
    assert best_continuation([older, newer, corrected], (1, 2)) == (6,)
    assert best_continuation([older, corrected], (1, 2)) == (5,)


def test_where_one_hint_ends_another_goes_on_if_it_fits() -> None:
    assert best_continuation([ReceivedDraft(0, (1, 2, 3, 4)), ReceivedDraft(0, (1, 2))], ()) == (1, 2, 3, 4)
    assert best_continuation([ReceivedDraft(0, (8, 8, 3, 4)), ReceivedDraft(0, (1, 2))], ()) == (1, 2)


@given(st.lists(st.builds(ReceivedDraft, st.integers(0, 5), tokens.map(tuple)), max_size=4), tokens)
def test_exact_rests_are_among_the_best(hints, answer) -> None:
    rest = exact_continuation(hints, answer)
    best = best_continuation(hints, answer)
    assert bool(best) or not rest
    if rest:
        assert any(
            best[:1] == hint.continuation(len(answer))[:1] for hint in hints if not hint.disagreements(answer)
        )


def test_a_share_follows_what_was_accepted_lately() -> None:
    share = AcceptanceAverage(0.5)
    share.observe(0, 0)
    assert share.value == 0.5
    share.observe(4, 4)
    assert share.value == pytest.approx(0.55)
    for _ in range(60):
        share.observe(10, 2)
    assert share.value == pytest.approx(0.2, abs=0.01)
