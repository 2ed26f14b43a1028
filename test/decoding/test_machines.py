"""The two machines, event by event."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import EOS, toy_target

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import (
    Counts,
    Done,
    DraftFrom,
    Failed,
    Finished,
    Prepare,
    RunPass,
    Send,
    Show,
    StopDrafting,
    Wait,
)
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import (
    Close,
    Committed,
    Draft,
    Early,
    Error,
    ErrorCode,
    Open,
    Opened,
    Pong,
    ServerMode,
    TokenOutcome,
)
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.states import CLOUD_TRANSITIONS, EDGE_TRANSITIONS, CloudState, EdgeState
from spec_decode_ros.decoding.testing import decode_alone
from spec_decode_ros.errors import SpecDecodeError

VERIFY = Open(1, "p", mode=ServerMode.VERIFY_ONLY)
STREAM = Open(1, "p")


def counts_of(machine: EdgeMachine) -> Counts:
    return machine._draft.counts(machine._newest, machine._branches.used)


def passing(message: Open = STREAM, *before: Draft) -> CloudMachine:
    """A server whose first pass runs."""
    machine = CloudMachine({EOS})
    for draft in before:
        assert machine.receive(draft) == []
    assert machine.receive(message) == [Send(Opened(1)), Prepare()]
    machine.prepared()
    return machine


def edge_started(name: str, **request) -> EdgeMachine:
    machine = EdgeMachine(METHODS[name], Request(1, "p", **request), {EOS})
    machine.start(0.0)
    return machine


def committed(position: int, *tokens: int, done: bool = False, passes: int = 1) -> Committed:
    return Committed(1, position, tokens, (TokenOutcome.BONUS,) * len(tokens), done=done, passes=passes)


def drafted(machine: EdgeMachine, run: int, *tokens: int) -> list:
    return [command for token in tokens for command in machine.drafted(run, token)]


def of_type(commands: list, kind: type) -> list:
    return [command for command in commands if isinstance(command, kind)]


def sent(commands: list) -> list:
    return [command.message for command in commands if isinstance(command, Send)]


def early(position: int, *tokens: int) -> Early:
    return Early(1, position, tokens, 0.99)


def test_foreseen_tokens_replace_the_draft_and_drafting_goes_on_after_them() -> None:
    machine = edge_started("early_exit")
    assert sent(drafted(machine, 1, 5, 6, 7, 8))[-1].tokens == (5, 6, 7, 8)
    assert of_type(machine.receive(early(0, 5, 9)), DraftFrom) == [DraftFrom(2, (5, 9), 4)]
    assert sent(drafted(machine, 2, 1, 2, 3, 4))[-1].tokens == (5, 9, 1, 2, 3, 4)
    machine.receive(committed(0, 5, 9))
    assert machine.answer == (5, 9, 1, 2, 3, 4)


def test_after_a_prediction_that_lacks_the_bonus_token_a_whole_window_goes_as_one() -> None:
    """Else each round would be over one token less than without exits, or over a piece of its draft."""
    machine = edge_started("early_exit")
    drafted(machine, 1, 5, 6, 7, 8)
    assert of_type(machine.receive(early(0, 5, 6)), DraftFrom) == [DraftFrom(2, (5, 6, 7, 8), 5)]
    assert sent(drafted(machine, 2, 9, 1)) == []
    assert sent(machine.receive(committed(0, 5, 6, 7, 8, 9))) == []
    assert [message.tokens for message in sent(drafted(machine, 2, 2, 3, 4))] == [(1, 2, 3, 4)]
    machine.receive(early(5, 1, 2, 3, 4, 7))
    assert [message.tokens for message in sent(drafted(machine, 3, 1, 2, 3, 4))] == [
        (1, 2, 3, 4, 7, 1, 2, 3, 4)
    ]


def test_foresight_that_the_verdict_has_refuted_is_not_listened_to() -> None:
    machine = edge_started("early_exit")
    drafted(machine, 1, 5, 6, 7, 8)
    machine.receive(committed(0, 5, 9))
    before = machine.answer
    assert machine.receive(early(0, 5, 6, 4, 4)) == []
    assert machine.answer == before
    assert of_type(machine.receive(early(0, 5, 9, 4)), DraftFrom)
    assert machine.answer == (5, 9, 4)


# ---- the cloud ---------------------------------------------------------------------------------------------


def test_the_first_pass_verifies_what_has_come_by_then() -> None:
    machine = CloudMachine({EOS})
    machine.receive(Open(1, "p", draft=(7, 7, 7, 7)))
    machine.receive(Draft(1, 0, (5, 6)))
    assert machine.prepared() == [RunPass((), (5, 6))]


def test_a_draft_may_overtake_its_open() -> None:
    machine = passing(STREAM, Draft(1, 0, (5, 6)))
    assert sent(machine.pass_finished((5, 6, 7)))[0].tokens == (5, 6, 7)


def test_a_late_draft_gives_what_is_still_valid_of_it() -> None:
    machine = passing()
    assert machine.receive(Draft(1, 0, (5, 6, 7))) == []
    assert machine.pass_finished((5,))[1:] == [RunPass((5,), (6, 7))]


def test_a_streaming_server_goes_on_by_itself_and_says_each_token() -> None:
    machine = passing()
    report, more = machine.pass_finished((5,), 3.0)
    assert report == Send(Committed(1, 0, (5,), (TokenOutcome.BONUS,), passes=1, busy_ms=3.0))
    assert more == RunPass((5,), ())


def test_a_verifying_server_waits_for_a_draft_that_agrees() -> None:
    machine = passing(VERIFY)
    assert len(machine.pass_finished((5,))) == 1
    assert machine.receive(Draft(1, 0, (6, 7))) == []
    assert machine.receive(Draft(1, 1, (8, 9))) == [RunPass((5,), (8, 9))]
    # What was rejected is not tried again.
    assert len(machine.pass_finished((7, 7, 7))) == 1


def test_a_verifying_server_goes_on_alone_where_it_is_asked_to_and_once() -> None:
    machine = passing(VERIFY)
    machine.pass_finished((5,))
    assert machine.receive(Draft(1, 1, final=True)) == [RunPass((5,), ())]
    assert len(machine.pass_finished((6,))) == 1
    assert sent(machine.receive(Draft(1, 1, final=True)))[0].tokens == (6,)


def test_a_patient_server_waits_once_for_a_draft() -> None:
    machine = passing(Open(1, "p", patience_ms=7.0, draft=(5,)))
    assert machine.pass_finished((5, 6))[1:] == [Wait(7.0)]
    assert machine.receive(Draft(1, 0, (9, 9, 9))) == []  # useless: the wait goes on
    assert machine.receive(Draft(1, 2, (8,))) == [RunPass((5, 6), (8,))]
    assert machine.waited() == []  # too late
    assert machine.pass_finished((7, 1))[1:] == [Wait(7.0)]
    assert machine.waited() == [RunPass((5, 6, 7), ())]
    assert machine.pass_finished((7,))[1:] == [RunPass((5, 6, 7, 7), ())]


def test_an_action_that_yields_waits_while_others_do_and_no_longer() -> None:
    machine = passing(Open(1, "p", yields=True))
    machine.others_wait(True)
    assert len(machine.pass_finished((5,))) == 1
    assert machine.yielding
    assert machine.others_wait(True) == []
    assert machine.others_wait(False) == [RunPass((5,), ())]
    assert not machine.yielding
    assert machine.pass_finished((6,))[1:] == [RunPass((5, 6), ())]


def test_a_poll_is_told_everything_from_its_position() -> None:
    machine = passing()
    machine.pass_finished((5,))
    machine.pass_finished((6,))
    assert [m.tokens for m in sent(machine.receive(Draft(1, 0)))] == [(5, 6)]
    assert [m.tokens for m in sent(machine.receive(Draft(1, 1)))] == [(6,)]
    assert [(m.position, m.tokens) for m in sent(machine.receive(Draft(1, 99)))] == [(2, ())]


def test_the_end_is_told_again_after_the_target_was_set_free() -> None:
    machine = passing()
    assert machine.pass_finished((EOS,)) == [
        Send(Committed(1, 0, (EOS,), (TokenOutcome.BONUS,), done=True, passes=1)),
        Finished(),
    ]
    assert sent(machine.receive(Draft(1, 0)))[0].done
    assert machine.receive(Draft(1, 0, (4, 4))) == []
    assert [type(message) for message in sent(machine.receive(STREAM))] == [Opened, Committed]
    assert machine.receive(Close(1)) == []


def test_a_repeated_open_changes_nothing() -> None:
    machine = passing()
    assert machine.receive(Open(1, "another", max_tokens=1)) == [Send(Opened(1))]
    assert machine.pass_finished((5,))[1:] == [RunPass((5,), ())]


def test_a_poll_before_any_open_asks_for_one() -> None:
    assert [m.code for m in sent(CloudMachine({EOS}).receive(Draft(4, 3)))] == [ErrorCode.UNKNOWN_ACTION]


def test_a_pass_never_has_more_draft_than_fits() -> None:
    machine = CloudMachine({EOS}, max_draft_tokens=3)
    machine.receive(Open(1, "p", draft=(5, 6, 7, 8, 9), max_tokens=5))
    assert machine.prepared() == [RunPass((), (5, 6, 7))]
    assert machine.pass_finished((5, 6, 7, 8))[1:] == [RunPass((5, 6, 7, 8), ())]
    assert sent(machine.pass_finished((9,)))[0].done


def test_a_pass_that_stood_in_line_takes_what_came_meanwhile() -> None:
    machine = passing()
    machine.receive(Draft(1, 0, (5, 6)))
    assert machine.pass_begins() == RunPass((), (5, 6))
    machine.receive(Draft(1, 0, (5, 6, 7)))  # while it runs
    assert machine.pass_finished((5, 6, 7))[1:] == [RunPass((5, 6, 7), ())]


def test_tokens_that_must_follow_are_committed_with_the_pass_before_them() -> None:
    follow = {(5,): (6, 7), (5, 6, 7, 8): (9, EOS)}
    machine = CloudMachine({EOS}, jump_forward=lambda answer: follow.get(tuple(answer), ()))
    machine.receive(STREAM)
    machine.prepared()
    news, following = machine.pass_finished((5,))
    assert news == Send(committed(0, 5, 6, 7)) and following == RunPass((5, 6, 7), ())
    assert machine.pass_finished((8,)) == [Send(committed(3, 8, 9, EOS, done=True, passes=2)), Finished()]


def test_they_end_with_the_longest_answer() -> None:
    machine = CloudMachine({EOS}, jump_forward=lambda answer: (6, 7, 8))
    machine.receive(Open(1, "p", max_tokens=3))
    machine.prepared()
    assert machine.pass_finished((5,)) == [Send(committed(0, 5, 6, 7, done=True)), Finished()]


def test_a_failed_action_says_why_to_every_poll() -> None:
    machine = passing()
    error = Error(1, ErrorCode.MODEL_FAILED, "The target is out of memory; close other sessions.")
    assert machine.failed(error.sentence) == [Send(error), Finished()]
    assert machine.receive(Draft(1, 0)) == machine.receive(STREAM) == [Send(error)]
    assert machine.failed("again") == []


@pytest.mark.parametrize("at_work", ["prepared", "pass_finished", "failed"])
def test_closing_waits_for_the_driver(at_work: str) -> None:
    machine = CloudMachine({EOS})
    machine.receive(STREAM)
    if at_work == "pass_finished":
        machine.prepared()
    assert machine.receive(Close(1)) == []
    assert machine.receive(Draft(1, 0)) == machine.receive(Close(1)) == machine.receive(STREAM) == []
    ends = {"prepared": machine.prepared, "failed": lambda: machine.failed("x")}
    assert ends.get(at_work, lambda: machine.pass_finished((5,)))() == [Finished()]
    assert machine.state is CloudState.CLOSED


def test_closing_a_waiting_server_frees_the_target_at_once() -> None:
    machine = passing(VERIFY)
    machine.pass_finished((5,))
    assert machine.receive(Close(1)) == [Finished()]
    assert CloudMachine({EOS}).receive(Close(1)) == []


def test_a_driver_that_reports_what_was_not_asked_is_told_so() -> None:
    with pytest.raises(RuntimeError, match="NEW has no transition for PREPARED"):
        CloudMachine({EOS}).prepared()


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.sampled_from(ServerMode), st.sampled_from([0.0, 5.0]), st.integers(1, 20))
def test_no_sequence_of_messages_changes_what_is_committed(seed, mode, patience_ms, max_tokens) -> None:
    rng = random.Random(seed)
    target = toy_target(seed, vocabulary=4)
    answer = decode_alone(target, {EOS}, max_tokens)
    machine, running, finished = CloudMachine({EOS}, max_draft_tokens=rng.randint(1, 8)), None, 0
    opening = Open(1, "p", mode=mode, patience_ms=patience_ms, max_tokens=max_tokens, draft=(1, 2, 3))
    said: dict[int, int] = {}
    for _ in range(400):
        choice = rng.random()
        if choice < 0.5:
            tokens = tuple(rng.randrange(4) for _ in range(rng.randint(0, 6)))
            position = rng.choice([0, len(machine.committed), rng.randint(0, 25)])
            commands = machine.receive(Draft(1, position, tokens, rng.random() < 0.3, rng.randint(1, 5)))
        elif choice < 0.6:
            commands = machine.receive(opening)
        elif choice < 0.7:
            commands = machine.waited()
        elif machine.state is CloudState.PREPARING:
            commands = machine.prepared()
        elif choice < 0.8 and running is not None:
            running, commands = machine.pass_begins(), []
        elif running is not None:
            text = [*running.committed, *running.draft]
            choices = tuple(target(text[:end]) for end in range(len(running.committed), len(text) + 1))
            running = None
            commands = machine.pass_finished(choices)
        else:
            commands = []
        for command in commands:
            if isinstance(command, RunPass):
                assert running is None, "two passes at once"
                running = command
        finished += len(of_type(commands, Finished))
        for message in sent(commands):
            if isinstance(message, Committed):
                said.update(enumerate(message.tokens, message.position))
    assert machine.committed == answer[: len(machine.committed)]
    assert tuple(said[index] for index in range(len(said))) == machine.committed
    assert finished == (machine.state is CloudState.DONE)


# ---- the edge ----------------------------------------------------------------------------------------------


def test_open_and_drafting_begin_together() -> None:
    machine = EdgeMachine(METHODS["auto"], Request(1, "p", previous=(4, EOS), max_tokens=9), {EOS})
    assert machine.start(0.0) == [
        Send(Open(1, "p", draft=(4, EOS), max_tokens=9, early=True)),
        DraftFrom(1, (), 8),
    ]


def test_a_correction_begins_the_draft_anew_after_it() -> None:
    machine = edge_started("auto")
    drafted(machine, 1, 5, 6, 7)
    commands = machine.receive(committed(0, 5, 9))
    assert commands == [Show((5, 9), 2), DraftFrom(2, (5, 9), 61)]
    assert machine.drafted(1, 8) == []  # of the old run
    assert sent(drafted(machine, 2, 3, 4)) == [Draft(1, 2, (3, 4), round=2)]


def test_an_edge_that_does_not_redraft_leaves_the_rest_to_the_server_and_goes_on_where_that_fails() -> None:
    method = replace(METHODS["auto"], server=ServerMode.SELF_DRAFT, redrafts=False)
    machine = EdgeMachine(method, Request(1, "p", max_tokens=12, fallback=True), {EOS})
    machine.start(0.0)
    drafted(machine, 1, 5, 6, 7)
    assert machine.receive(committed(0, 5, 9)) == [StopDrafting(), Show((5, 9), 2)]
    assert machine.receive(committed(2, 8)) == [Show((5, 9, 8), 3)]
    assert machine.receive(Error(1, ErrorCode.MODEL_FAILED, "broken")) == [DraftFrom(2, (5, 9, 8), 9)]


def test_agreement_lets_the_draft_run_on() -> None:
    machine = edge_started("auto")
    drafted(machine, 1, 5, 6, 7)
    assert machine.receive(committed(0, 5)) == [Show((5, 6, 7), 1)]
    assert sent(machine.drafted(1, 8)) == [Draft(1, 1, (6, 7, 8), round=2)]


def test_a_draft_that_the_cloud_has_overtaken_jumps_ahead() -> None:
    machine = edge_started("auto")
    drafted(machine, 1, 5)
    assert machine.receive(committed(0, 5, 6, 7))[-1] == DraftFrom(2, (5, 6, 7), 60)


def test_a_missing_message_is_asked_for_at_once_and_once() -> None:
    machine = edge_started("cloud")
    assert sent(machine.receive(committed(1, 6, passes=2))) == [Draft(1, 0, round=2)]
    assert machine.receive(committed(2, 7, passes=3)) == []
    assert machine.receive(committed(0, 5)) == [Show((5, 6, 7), 3)]


def test_the_last_message_may_come_first() -> None:
    machine = edge_started("cloud")
    assert of_type(machine.receive(committed(1, EOS, done=True, passes=2)), Done) == []
    done = of_type(machine.receive(committed(0, 5)), Done)[0]
    assert done.tokens == (5, EOS) and done.verified and done.counts.passes == 2


def test_silence_is_answered_with_what_may_be_lost() -> None:
    machine = edge_started("sync", resend_s=1.0)
    assert machine.wake_at == 1.0
    assert [type(message) for message in sent(machine.tick(1.0))] == [Open]
    assert machine.wake_at == 3.0  # twice as long
    machine.receive(Opened(1))
    drafted(machine, 1, 5, 6, 7, 8)
    assert machine.tick(3.0) == []  # there was news
    assert sent(machine.tick(4.0)) == [Draft(1, 0, (5, 6, 7, 8), final=True), Draft(1, 0)]


def test_a_server_that_has_forgotten_gets_all_that_is_known() -> None:
    machine = edge_started("cloud", resend_s=1.0)
    machine.receive(committed(0, 5, 6))
    machine.receive(Error(1, ErrorCode.UNKNOWN_ACTION, "gone"))
    machine.tick(1.0)
    assert sent(machine.tick(2.0))[0].draft == (5, 6)


def test_a_server_that_began_anew_is_reminded() -> None:
    machine = edge_started("sync")
    drafted(machine, 1, 5, 6, 7, 8)
    machine.receive(committed(0, 5, 6, 3))
    drafted(machine, 2, 4)
    assert sent(machine.receive(committed(1, passes=0))) == [Draft(1, 1, (6, 3, 4), round=2)]
    server = passing(VERIFY)
    server.pass_finished((5,))
    assert [m.position for m in sent(server.receive(Draft(1, 3, final=True)))] == [1]
    assert server.receive(Draft(1, 1, (6, 3, 4))) == [RunPass((5,), (6, 3, 4))]


def test_a_draft_that_comes_late_and_shorter_changes_nothing() -> None:
    machine = passing(STREAM, Draft(1, 0, (5, 6, 7)), Draft(1, 0, (5, 6)))
    machine.receive(Draft(1, 0, (5,)))
    assert [hint.tokens for hint in machine._verification._drafts] == [(5, 6, 7)]


def test_patience_is_used_up_until_a_draft_comes() -> None:
    machine = passing(Open(1, "p", patience_ms=7.0, draft=(5,)))
    machine.pass_finished((5, 6))
    machine.waited()
    assert machine.pass_finished((7,))[1:] == [RunPass((5, 6, 7), ())]
    machine.receive(Draft(1, 2, (9, 9)))
    assert machine.pass_finished((8,))[1:] == [Wait(7.0)]


@pytest.mark.parametrize("action_id", [0, 1])
def test_without_the_cloud_the_draft_goes_on_alone(action_id: int) -> None:
    machine = edge_started("sync", max_tokens=6)
    drafted(machine, 1, 5, 6, 7, 8)
    assert machine.receive(Error(action_id, ErrorCode.BUSY, "busy")) == [DraftFrom(2, (5, 6, 7, 8), 2)]
    machine.drafted(2, 9)
    assert machine.drafted(2, EOS)[1:] == [
        Send(Close(1)),
        Done((5, 6, 7, 8, 9, EOS), (TokenOutcome.UNVERIFIED,) * 6, False, True, counts_of(machine)),
    ]


def test_a_draft_that_is_whole_already_is_taken_at_once() -> None:
    machine = edge_started("auto")
    drafted(machine, 1, 5, EOS)
    done = machine.receive(Error(1, ErrorCode.MODEL_FAILED, "broken"))[-1]
    assert (done.tokens, done.verified, done.complete) == ((5, EOS), False, True)


def test_without_fallback_an_error_is_a_failure() -> None:
    machine = edge_started("auto", fallback=False)
    commands = machine.receive(Error(1, ErrorCode.BUSY, "busy"))
    assert commands == [StopDrafting(), Send(Close(1)), Failed(ErrorCode.BUSY, "busy")]
    assert machine.receive(committed(0, 5)) == machine.tick(99.0) == machine.drafted(1, 5) == []
    assert machine.wake_at is None


def test_the_cloud_method_has_nothing_to_fall_back_on() -> None:
    assert isinstance(edge_started("cloud").receive(Error(1, ErrorCode.BUSY, "busy"))[-1], Failed)


def test_a_draft_model_with_nothing_to_say_leaves_it_to_the_cloud() -> None:
    machine = edge_started("sync")
    assert sent(machine.draft_ended(1)) == [Draft(1, 0, final=True)]
    commands = machine.receive(committed(0, 5))
    assert commands[-1] == DraftFrom(2, (5,), 4)
    assert edge_started("edge").draft_ended(1)[-1].complete is False


def test_the_deadline_takes_what_there_is() -> None:
    machine = edge_started("auto", deadline_s=2.0, resend_s=9.0)
    drafted(machine, 1, 5, 6)
    machine.receive(committed(0, 5))
    assert machine.wake_at == 2.0
    done = machine.tick(2.0)[-1]
    assert (done.tokens, done.verified, done.complete) == ((5, 6), False, False)
    assert done.outcomes == (TokenOutcome.BONUS, TokenOutcome.UNVERIFIED)
    failed = edge_started("auto", deadline_s=2.0, fallback=False).tick(2.5)[-1]
    assert isinstance(failed, Failed) and "2 s" in failed.sentence


@pytest.mark.parametrize(
    "message",
    [
        Pong(3),
        Opened(2),
        committed(0),
        Committed(2, 0, (5,), (TokenOutcome.BONUS,)),
        Error(2, ErrorCode.BUSY, "busy"),
    ],
)
def test_messages_that_are_none_of_its_business_do_nothing(message) -> None:
    machine = edge_started("auto")
    assert machine.receive(message) == []
    assert machine.answer == ()


def test_a_server_that_says_too_much_is_cut_short() -> None:
    machine = edge_started("cloud", max_tokens=2)
    done = of_type(machine.receive(committed(0, 5, 6, 7, done=True)), Done)[0]
    assert done.tokens == (5, 6)


@pytest.mark.parametrize("bad", [dict(resend_s=0.0), dict(resend_s=float("nan")), dict(deadline_s=-1.0)])
def test_requests_that_could_not_work_are_refused(bad) -> None:
    with pytest.raises(SpecDecodeError):
        Request(1, "p", **bad)


@pytest.mark.parametrize(
    ("states", "transitions"), [(CloudState, CLOUD_TRANSITIONS), (EdgeState, EDGE_TRANSITIONS)]
)
def test_every_state_can_be_reached_and_left(states, transitions) -> None:
    reached = {state for moves in transitions.values() for state in moves.values()}
    assert reached | {states.NEW} == set(states) == set(transitions)
    assert [state for state, moves in transitions.items() if not moves] == [list(states)[-1]]


def test_a_refuted_draft_is_guessed_from_no_further_than_is_worth_it() -> None:
    for wild, expected in ((0, ()), (1, (7,)), (32, (7, 8))):
        machine = CloudMachine({EOS}, stale_tokens=wild)
        machine.receive(Open(1, "p", draft=(5, 6, 7, 8)))
        assert machine.prepared() == [RunPass((), (5, 6, 7, 8))]
        *_, again = machine.pass_finished((5, 4, 9, 9, 9))
        assert again == RunPass((5, 4), expected)
        machine.pass_finished((7, 1, 1)[: len(expected) + 1])
        assert machine.stale_judged == (min(2, len(expected) + 1), 1)  # also of what the pass was not over


def test_a_pass_is_over_no_more_than_fits_into_the_context() -> None:
    machine = CloudMachine({EOS})
    machine.receive(Open(1, "p", draft=(5, 6, 7, 8)))
    assert machine.prepared(context=3) == [RunPass((), (5, 6, 7))]
    *_, again = machine.pass_finished((5, 4, 9, 9))
    assert again == RunPass((5, 4), (7,))


def test_an_edge_without_a_draft_asks_a_server_that_yields_to_others() -> None:
    method = replace(METHODS["auto"], temporal=False, yields=True)
    edge = EdgeMachine(method, Request(1, "p"), {EOS})
    edge.start(0.0)
    asked = edge.draft_ended(1)
    assert asked == [Send(Draft(1, 0, (), final=True))]
    cloud = CloudMachine({EOS})
    cloud.receive(Open(1, "p", yields=True))
    cloud.others_wait(True)
    cloud.prepared()
    cloud.pass_finished((5,))
    assert cloud.yielding
    assert cloud.receive(Draft(1, 1, (), final=True)) == [RunPass((5,), ())]


def test_foresight_is_judged_by_what_was_told_and_nothing_else() -> None:
    edge = EdgeMachine(METHODS["auto"], Request(1, "p"), {EOS})
    edge.start(0.0)
    for token in (5, 6, 7):
        edge.drafted(1, token)

    def counts() -> tuple[int, int]:
        return counts_of(edge).predictions, counts_of(edge).prediction_hits

    edge.receive(Early(1, 0, (5, 6), 0.99))
    edge.receive(Committed(1, 0, (5,), (TokenOutcome.ACCEPTED,), passes=1))
    assert counts() == (0, 0), "half of what was told has come"
    edge.receive(Committed(1, 1, (6, 4), (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED), passes=2))
    assert counts() == (1, 1), "no exit had said 7"
    edge.receive(Committed(1, 3, (3,), (TokenOutcome.BONUS,), passes=3))
    assert counts() == (1, 1)
    edge.receive(Early(1, 4, (8,), 0.99))
    edge.receive(Committed(1, 4, (9,), (TokenOutcome.BONUS,), passes=4))
    assert counts() == (2, 1)


def test_a_server_that_has_forgotten_is_told_at_once_and_once() -> None:
    edge = EdgeMachine(METHODS["cloud"], Request(1, "p"), {EOS})
    edge.start(0.0)
    edge.receive(Opened(1))
    unknown = Error(1, ErrorCode.UNKNOWN_ACTION, "unknown")
    (again,) = edge.receive(unknown)
    assert isinstance(again, Send) and isinstance(again.message, Open)
    assert edge.receive(unknown) == []
