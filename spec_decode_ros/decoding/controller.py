"""Choosing how to decode from what was measured, so that nobody has to.

Everything here is arithmetic on :class:`Measurements`; who measures them is the driver's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from spec_decode_ros.decoding.branches import LENGTH
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import WHOLE_ACTION, Method
from spec_decode_ros.errors import SpecDecodeError

Objective = Literal["latency", "balanced", "cost"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

MOST_OWN = 16
"""Tokens that a server's own draft model makes for one pass, at most."""

FEW = 4
"""Drafted tokens of which one more may cost less than of many: up to so many, a pass reads weights for the most part."""

SECOND = 0.17
"""How often a draft model's second choice is right where its first one is wrong: 0.17 and 0.21 of these tokens with two
drafts of the text pair."""

WORTH_EXITS = 4.0
"""How many drafted tokens a pass must last for an exit in its middle to give time for two."""

WORTH_DRAFTING = 0.01
"""A draft token that is reached with less than this chance is not worth its making."""

WORTH_REDRAFTING = 0.2
"""A draft that arrives with less than this chance of being right up to there is not worth what it takes from the robot."""

SHORTEST_WINDOW = 8
"""Tokens; so that one action of bad luck does not end the drafting."""

MESSAGE_MS = 1.5
"""What a message takes of robot and server, measured on one core each; a draft model that is quick says more in each."""

MESSAGE_BYTES = 40
"""What a draft of a few tokens takes on the wire, with all that is around it."""

_TIMES = (
    "rtt_ms",
    "draft_ms",
    "step_ms",
    "per_token_ms",
    "few_ms",
    "own_ms",
    "own_prefill_ms",
    "tokens",
    "upload_ms",
)

PATIENCE_MS = 10_000.0
"""How long a server waits for a draft where only its passes count."""


@dataclass(frozen=True)
class Measurements:
    """What was measured of a link and a pair; times in milliseconds.

    Attributes:
        rtt_ms: round-trip time.
        draft_ms: a token of the draft model on the edge.
        step_ms: a target pass over one token.
        acceptance: share of the drafted tokens, looked at one by one, that the target confirms.
        per_token_ms: what one more drafted token adds to a pass.
        few_ms: the same of each of the first `FEW`; None if it is the same.
        own_ms: a token of the server's own draft model; None where it has none.
        own_prefill_ms: what that model needs before its first token of an action.
        tokens: length of an answer.
        upload_ms: what the frame takes to the cloud beyond the round-trip time.
        uplink_mbps: bandwidth to the cloud.
        foresight: share of the tokens that the target's early exits are sure of and right about.
        wild: share of the tokens, looked at one by one, that the target confirms of drafts that were wrong before.
    """

    rtt_ms: float
    draft_ms: float
    step_ms: float
    acceptance: float
    per_token_ms: float = 0.0
    own_ms: float | None = None
    foresight: float = 0.95
    tokens: float = 16.0
    upload_ms: float = 0.0
    uplink_mbps: float = math.inf
    own_prefill_ms: float = 0.0
    few_ms: float | None = None
    wild: float = 0.5

    def __post_init__(self) -> None:
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SpecDecodeError(f"{name} must be 0 or more, not {value}.")
        if not self.uplink_mbps > 0:
            raise SpecDecodeError(f"uplink_mbps must be above 0, not {self.uplink_mbps}.")
        for name in ("acceptance", "foresight", "wild"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecDecodeError(f"{name} must be from 0 to 1, not {getattr(self, name)}.")


def expected_length(acceptance: float, drafted: int) -> float:
    """Tokens that a pass over so many drafted ones commits on average (Leviathan et al., arXiv 2211.17192, eq. 1)."""
    if acceptance >= 1:
        return drafted + 1.0
    return (1 - acceptance ** (drafted + 1)) / (1 - acceptance)


def pass_ms(now: Measurements, drafted: int) -> float:
    """What a target pass over so many drafted tokens takes."""
    few, few_ms = min(drafted, FEW), now.per_token_ms if now.few_ms is None else now.few_ms
    return now.step_ms + few * few_ms + (drafted - few) * now.per_token_ms


def token_ms(now: Measurements, drafted: int) -> float:
    """What a token costs a server that drafts so many tokens by itself for each pass; 0 is to go on without."""
    own = (now.own_ms or 0.0) * drafted
    return (pass_ms(now, drafted) + own) / expected_length(now.acceptance, drafted)


def guess_ms(now: Measurements, exact: int, wild: int) -> float:
    """What a token costs a server that verifies a draft which is there already.

    Its first `exact` tokens agree with all that is committed and are taken to be as good as any draft; `wild` more are
    from drafts that were wrong before.
    """
    length = expected_length(now.acceptance, exact)
    length += now.acceptance**exact * (expected_length(now.wild, wild) - 1)
    return pass_ms(now, exact + wild) / length


def resumed_ms(now: Measurements, wild: int) -> float:
    """The same where drafts were wrong twice running: a pass for one token, and if they have that, one over `wild` more."""
    return (now.step_ms + now.wild * pass_ms(now, wild)) / (1 + now.wild * expected_length(now.wild, wild))


def own_length(now: Measurements) -> int:
    """How many tokens the server's own draft model should make for a pass; 0 where drafting there does not pay."""
    if now.own_ms is None:
        return 0
    return min(range(MOST_OWN + 1), key=lambda drafted: token_ms(now, drafted))


def runners_up(now: Measurements, drafted: int) -> int:
    """At how many places, from the first on, the second choice should stand in a pass beside so many drafted tokens.

    It is reached if all tokens before it are right, and spares a pass for one token if it is right and the first is not.
    """
    spared = SECOND * (1 - now.acceptance) * token_ms(now, drafted)
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
    length = own_length(now)
    drafting_ms = length * (now.own_ms or 0.0)
    if not drafting_ms or drafting_ms >= max(now.step_ms, now.rtt_ms):
        return ServerMode.STREAM
    left = now.tokens / 2
    if now.own_prefill_ms + left * token_ms(now, length) >= left * now.step_ms:
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
    """The largest power of a chance that is at least so much; not above a whole action."""
    if not 0 < chance < 1:
        return WHOLE_ACTION if chance else 0
    return int(min(math.log(least) / math.log(chance), WHOLE_ACTION))


def window(now: Measurements) -> int:
    """How many tokens the edge should draft ahead of the verdicts.

    As far as there is a chance that one is reached, and as a pass over them is worth its time.
    """
    reached = max(_power_down_to(now.acceptance, WORTH_DRAFTING), SHORTEST_WINDOW)
    return max(1, min(reached, worth_verifying(now.acceptance, now.step_ms, now.per_token_ms)))


def chunk(now: Measurements, least: int) -> int:
    """After how many tokens to send a draft, so that messages leave no later than the next tokens are ready."""
    message_ms = max(MESSAGE_MS, MESSAGE_BYTES * 8 / 1000 / now.uplink_mbps)
    return max(least, math.ceil(min(message_ms / now.draft_ms, WHOLE_ACTION)) if now.draft_ms else least)


def branches_pay(now: Measurements, server: ServerMode) -> bool:
    """Whether drafts for corrections that may come are worth their making.

    They are made in the wait for a verdict, so the answer's draft has to be ready before it; and a server that continues
    by its own drafts after a rejection gains next to nothing from the edge's. Else one that is right spares the wait for
    a new draft, or as many passes as the server makes meanwhile, if they end before.
    """
    wait_ms = now.rtt_ms + now.step_ms + now.upload_ms
    idle = min(now.tokens, window(now)) * now.draft_ms < wait_ms
    rejected = 1 - now.acceptance**now.tokens
    spared_ms = rejected * SECOND * min(now.rtt_ms + now.step_ms, now.tokens / 2 * now.step_ms)
    return idle and spared_ms > MESSAGE_MS and server is not ServerMode.SELF_DRAFT


def sending_branches_pays(now: Measurements) -> bool:
    """Whether branches, which need some messages' bytes, arrive while they still can save a round trip."""
    return 4 * MESSAGE_BYTES * 8 / 1000 / now.uplink_mbps < now.rtt_ms


def redrafting_pays(now: Measurements) -> bool:
    """Whether a new draft after a rejection is of use to a server that drafts by itself, which goes on meanwhile.

    It is if it agrees with all that the server commits until it arrives.
    """
    length = own_length(now)
    meanwhile_ms = pass_ms(now, length) + length * (now.own_ms or 0.0)
    passes = 1 + now.rtt_ms / meanwhile_ms if meanwhile_ms else math.inf
    return now.acceptance ** (passes * expected_length(now.acceptance, length)) >= WORTH_REDRAFTING


def gathering_branches_pays(now: Measurements, branches: int) -> bool:
    """Whether all branches are made before a message about the first of them could be of much more use."""
    return 2 * branches * LENGTH * now.draft_ms <= now.rtt_ms


def plan(base: Method, objective: Objective, now: Measurements | None) -> Method:
    """How to decode the next action.

    Args:
        base: the method whose other choices are kept.
        objective: `latency` lets the server continue by itself; `cost` makes it only verify, with whole drafts, so that
            passes are fewest; `balanced` lets it continue only while no other robot waits.
        now: what was measured; None before anything was.
    """
    if objective not in OBJECTIVES:
        raise SpecDecodeError(f"There is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    if objective == "cost":
        return replace(
            base,
            server=ServerMode.VERIFY_ONLY,
            redrafts=True,
            window=WHOLE_ACTION,
            chunk=WHOLE_ACTION,
            patience_ms=PATIENCE_MS,
            branches=0,
            sends_branches=False,
        )
    if now is None:
        return replace(base, redrafts=True, yields=objective == "balanced")
    # Where an exit and a draft differ, one of them is wrong: listen to the exit only if that is mostly the draft, and
    # if what is left of a pass after it is long enough to draft something.
    early = base.early and now.acceptance < now.foresight and now.step_ms >= WORTH_EXITS * now.draft_ms
    server = server_mode(now)
    pays = branches_pay(now, server)
    return replace(
        base,
        server=server,
        redrafts=server is not ServerMode.SELF_DRAFT or objective == "balanced" or redrafting_pays(now),
        window=min(base.window, window(now)),
        chunk=chunk(now, base.chunk),
        early=early,
        yields=objective == "balanced",
        branches=base.branches if pays else 0,
        sends_branches=base.sends_branches and pays and sending_branches_pays(now),
        gathers_branches=gathering_branches_pays(now, base.branches),
    )
