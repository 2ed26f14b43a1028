"""The controller: chooses how to decode from measurements. All of it is arithmetic on :class:`Measurements`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import WHOLE_ACTION, Method
from spec_decode_ros.errors import SpecDecodeError

Objective = Literal["latency", "balanced", "cost"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class ControllerConstants:
    """What the controller assumes, each with where it comes from.

    Attributes:
        max_server_draft: tokens of the server's own draft for one pass, at most. A cap on the search for the best length.
        few_tokens: up to that many draft tokens a pass mostly reads weights, so one more may cost less than of many.
            Measured: SmolLM2-135M on one core, 1/4/6/16 tokens 36/36/38/65 ms.
        second_choice_acceptance: how often a draft model's second choice is right where its first is wrong. Measured:
            0.17 and 0.21 of these tokens with two drafts of the text pair.
        min_drafts_per_pass: how many tokens the edge must be able to draft during a pass for an exit in its middle to
            give time for two. Derived.
        min_reach: a draft token that is reached with less than this chance is not drafted. Chosen.
        min_redraft_chance: a draft that arrives with less than this chance of being right up to there is not drafted.
            Measured in virtual time: at 0.3 one published regime (PicoSpec, HumanEval) lost 15 %, at 0.2 none.
        min_window: shortest window in tokens, so that one unlucky action does not end the drafting. Chosen.
        message_ms: what a message costs robot and server. Measured on one core each.
        message_bytes: what a draft of a few tokens takes on the wire with its overhead. Measured.
        pass_weight: what a pass counts where passes are to be few, in the times that it takes. Chosen.
        surely_faster: share of the other's time that an estimate must come to, to be faster in spite of its errors. Measured
            in virtual time: with 1 the cost objective was up to 6 % slower than the target alone in 2 of 75 cells.
        cost_patience_ms: how long a server waits for a draft where only its passes count. The most that `Open` takes.
    """

    max_server_draft: int = 16
    few_tokens: int = 4
    second_choice_acceptance: float = 0.17
    min_drafts_per_pass: float = 4.0
    min_reach: float = 0.01
    min_redraft_chance: float = 0.2
    min_window: int = 8
    message_ms: float = 1.5
    message_bytes: int = 40
    pass_weight: float = 4.0
    surely_faster: float = 0.9
    cost_patience_ms: float = 10_000.0


CONSTANTS = ControllerConstants()

_TIMES = (
    "rtt_ms",
    "draft_ms",
    "step_ms",
    "per_token_ms",
    "few_ms",
    "server_draft_ms",
    "server_draft_prefill_ms",
    "tokens",
    "upload_ms",
)


@dataclass(frozen=True)
class Measurements:
    """What was measured of a link and a pair; times in milliseconds.

    Attributes:
        rtt_ms: round-trip time.
        draft_ms: a token of the draft model on the edge.
        step_ms: a target pass over one token.
        acceptance: share of the drafted tokens, looked at one by one, that the target confirms.
        per_token_ms: what one more drafted token adds to a pass.
        few_ms: the same of each of the first `CONSTANTS.few_tokens`; None if it is the same.
        server_draft_ms: a token of the server's own draft model; None where it has none.
        server_draft_prefill_ms: what that model needs before its first token of an action.
        tokens: length of an answer.
        upload_ms: what the frame takes to the cloud beyond the round-trip time.
        uplink_mbps: bandwidth to the cloud.
        exit_accuracy: share of the tokens that the target's early exits are sure of and right about.
        stale_acceptance: as `acceptance`, of stale drafts.
    """

    rtt_ms: float
    draft_ms: float
    step_ms: float
    acceptance: float
    per_token_ms: float = 0.0
    server_draft_ms: float | None = None
    exit_accuracy: float = 0.95
    tokens: float = 16.0
    upload_ms: float = 0.0
    uplink_mbps: float = math.inf
    server_draft_prefill_ms: float = 0.0
    few_ms: float | None = None
    stale_acceptance: float = 0.5

    def __post_init__(self) -> None:
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SpecDecodeError(f"{name} must be 0 or more, not {value}.")
        if not self.uplink_mbps > 0:
            raise SpecDecodeError(f"uplink_mbps must be above 0, not {self.uplink_mbps}.")
        for name in ("acceptance", "exit_accuracy", "stale_acceptance"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecDecodeError(f"{name} must be from 0 to 1, not {getattr(self, name)}.")


def expected_length(acceptance: float, drafted: int) -> float:
    """Tokens that a pass over `drafted` draft tokens commits on average (Leviathan et al., arXiv 2211.17192, eq. 1)."""
    if acceptance >= 1:
        return drafted + 1.0
    return (1 - acceptance ** (drafted + 1)) / (1 - acceptance)


def pass_ms(now: Measurements, drafted: int) -> float:
    """What a target pass over `drafted` draft tokens takes."""
    few, few_ms = min(drafted, CONSTANTS.few_tokens), now.per_token_ms if now.few_ms is None else now.few_ms
    return now.step_ms + few * few_ms + (drafted - few) * now.per_token_ms


def server_draft_ms_per_token(now: Measurements, drafted: int) -> float:
    """What an output token costs a server that drafts `drafted` tokens by itself for each pass; 0: it drafts none."""
    drafting_ms = (now.server_draft_ms or 0.0) * drafted
    return (pass_ms(now, drafted) + drafting_ms) / expected_length(now.acceptance, drafted)


def edge_draft_ms_per_token(now: Measurements, exact: int, stale: int) -> float:
    """What an output token costs a server that verifies a draft which is there already.

    Its first `exact` tokens agree with all that is committed and are taken to be as good as any draft; `stale` more are
    from stale drafts.
    """
    length = expected_length(now.acceptance, exact)
    length += now.acceptance**exact * (expected_length(now.stale_acceptance, stale) - 1)
    return pass_ms(now, exact + stale) / length


def stale_draft_ms_per_token(now: Measurements, stale: int) -> float:
    """The same where the edge has no draft for the next token: a pass for that one, then one over `stale` more tokens.

    The second pass follows only if a stale draft has that token.
    """
    chance = now.stale_acceptance
    return (now.step_ms + chance * pass_ms(now, stale)) / (1 + chance * expected_length(chance, stale))


def server_draft_length(now: Measurements) -> int:
    """How many tokens the server's own draft model should make for a pass; 0 where drafting there does not pay."""
    if now.server_draft_ms is None:
        return 0
    return min(
        range(CONSTANTS.max_server_draft + 1), key=lambda drafted: server_draft_ms_per_token(now, drafted)
    )


def alternative_places(now: Measurements, drafted: int) -> int:
    """At how many places, from the first on, a pass over `drafted` tokens should also hold the second choice.

    It is reached if all tokens before it are right, and spares a pass for one token if it is right and the first is not.
    """
    spared = (
        CONSTANTS.second_choice_acceptance * (1 - now.acceptance) * server_draft_ms_per_token(now, drafted)
    )
    count = 0
    while count < drafted:
        more_ms = pass_ms(now, drafted + count + 1) - pass_ms(now, drafted + count)
        if spared * now.acceptance**count <= more_ms:
            break
        count += 1
    return count


def server_mode(now: Measurements) -> ServerMode:
    """Who continues after a rejected draft: the server's own draft model, or the edge with the server streaming on.

    The server, if drafting there pays at all; but not where making its draft takes longer than both a pass and a round
    trip, since the edge's new draft is there before that, and was made while the server was at work; nor where what is
    left of an answer, half of it on average, is said token by token before the server's draft model has read the prompt.
    """
    length = server_draft_length(now)
    drafting_ms = length * (now.server_draft_ms or 0.0)
    if not drafting_ms or drafting_ms >= max(now.step_ms, now.rtt_ms):
        return ServerMode.STREAM
    left = now.tokens / 2
    if now.server_draft_prefill_ms + left * server_draft_ms_per_token(now, length) >= left * now.step_ms:
        return ServerMode.STREAM
    return ServerMode.SELF_DRAFT


def worth_verifying(acceptance: float, step_ms: float, per_token_ms: float) -> int:
    """How many draft tokens a pass should be over, each accepted with that chance.

    One more costs `per_token_ms`, and spares a pass of `step_ms` if all up to it are right.
    """
    if per_token_ms and per_token_ms >= step_ms:
        return 0
    cost = per_token_ms / step_ms if per_token_ms else 0.0
    return _power_down_to(acceptance, cost) if cost else WHOLE_ACTION


def _power_down_to(chance: float, least: float) -> int:
    """The largest exponent for which the power of `chance` is at least `least`; not above a whole action."""
    if not 0 < chance < 1:
        return WHOLE_ACTION if chance else 0
    return int(min(math.log(least) / math.log(chance), WHOLE_ACTION))


def window(now: Measurements) -> int:
    """How many tokens the edge should draft ahead of verification.

    As far as there is a chance that one is reached, and as a pass over them is worth its time.
    """
    reached = max(_power_down_to(now.acceptance, CONSTANTS.min_reach), CONSTANTS.min_window)
    return max(1, min(reached, worth_verifying(now.acceptance, now.step_ms, now.per_token_ms)))


def verify_round_ms(now: Measurements, drafted: int, pass_weight: float = 1.0) -> float:
    """What a new draft of `drafted` tokens and its verdict take; the pass counts as `pass_weight` times its time."""
    return drafted * now.draft_ms + now.rtt_ms + CONSTANTS.message_ms + pass_weight * pass_ms(now, drafted)


def few_passes_window(now: Measurements) -> int:
    """How many tokens to draft for each pass of a server that only verifies; 0 where that is slower than the target alone.

    The first draft is made while the frame is uploaded; the last one is too long for what is left of the answer.
    """
    best = min(
        range(1, WHOLE_ACTION + 1),
        key=lambda drafted: (
            verify_round_ms(now, drafted, CONSTANTS.pass_weight) / expected_length(now.acceptance, drafted)
        ),
    )
    rounds = max(0.0, now.tokens / expected_length(now.acceptance, best) - 0.25)
    late_ms = max(0.0, best * now.draft_ms - now.upload_ms)
    alone_ms = (now.tokens - 1) * now.step_ms
    expected_ms = late_ms + rounds * verify_round_ms(now, best)
    return best if expected_ms <= CONSTANTS.surely_faster * alone_ms else 0


def chunk(now: Measurements, least: int) -> int:
    """After how many tokens to send a draft, so that messages leave no later than the next tokens are ready."""
    message_ms = max(CONSTANTS.message_ms, CONSTANTS.message_bytes * 8 / 1000 / now.uplink_mbps)
    return max(least, math.ceil(min(message_ms / now.draft_ms, WHOLE_ACTION)) if now.draft_ms else least)


def branches_pay(now: Measurements, server: ServerMode) -> bool:
    """Whether prepared branches are worth their making.

    They are made in the wait for a verdict, so the answer's draft has to be ready before it; and a server that continues
    by its own drafts after a rejection gains next to nothing from the edge's. Else one that is right spares the wait for
    a new draft, or as many passes as the server makes meanwhile, if they end before.
    """
    wait_ms = now.rtt_ms + now.step_ms + now.upload_ms
    idle = min(now.tokens, window(now)) * now.draft_ms < wait_ms
    rejected = 1 - now.acceptance**now.tokens
    spared_ms = min(now.rtt_ms + now.step_ms, now.tokens / 2 * now.step_ms)
    pays = rejected * CONSTANTS.second_choice_acceptance * spared_ms > CONSTANTS.message_ms
    return idle and pays and server is not ServerMode.SELF_DRAFT and sending_branches_pays(now)


def sending_branches_pays(now: Measurements) -> bool:
    """Whether branches, which need some messages' bytes, arrive while they still can save a round trip."""
    return 4 * CONSTANTS.message_bytes * 8 / 1000 / now.uplink_mbps < now.rtt_ms


def redrafting_pays(now: Measurements) -> bool:
    """Whether a new draft after a rejection is of use to a server that drafts by itself, which goes on meanwhile.

    It is if it agrees with all that the server commits until it arrives.
    """
    length = server_draft_length(now)
    meanwhile_ms = pass_ms(now, length) + length * (now.server_draft_ms or 0.0)
    passes = 1 + now.rtt_ms / meanwhile_ms if meanwhile_ms else math.inf
    return (
        now.acceptance ** (passes * expected_length(now.acceptance, length)) >= CONSTANTS.min_redraft_chance
    )


def plan(base: Method, objective: Objective, now: Measurements | None) -> Method:
    """How to decode the next action.

    Args:
        base: the method whose other choices are kept.
        objective: `latency` lets the server continue by itself; `balanced` only while no other robot waits; `cost` makes
            it only verify, so that passes are few, unless that would be slower than the target alone: then as `balanced`.
        now: what was measured; None before anything was.
    """
    if objective not in OBJECTIVES:
        raise SpecDecodeError(f"There is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    drafted = CONSTANTS.min_window if now is None else few_passes_window(now)
    if objective == "cost" and drafted:
        return replace(
            base,
            server=ServerMode.VERIFY_ONLY,
            redrafts=True,
            window=drafted,
            chunk=drafted,
            patience_ms=CONSTANTS.cost_patience_ms,
            branches=0,
        )
    yields = objective != "latency"
    if now is None:
        return replace(base, redrafts=True, yields=yields)
    # Where an exit and a draft differ, one of them is wrong: listen to the exit only if that is mostly the draft, and
    # if what is left of a pass after it is long enough to draft something.
    early = (
        base.early
        and now.acceptance < now.exit_accuracy
        and now.step_ms >= CONSTANTS.min_drafts_per_pass * now.draft_ms
    )
    server = server_mode(now)
    # A branch that is verified costs a pass sooner or later: they save time, not passes.
    branches = objective != "cost" and branches_pay(now, server)
    return replace(
        base,
        server=server,
        redrafts=server is not ServerMode.SELF_DRAFT or yields or redrafting_pays(now),
        window=min(base.window, window(now)),
        chunk=chunk(now, base.chunk),
        early=early,
        branches=base.branches if branches else 0,
        yields=yields,
    )
