"""The commands of the two state machines. A driver carries them out in order and reports back by events."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.decoding.messages import Down, TokenOutcome, Up
from spec_decode_ros.decoding.tree import Tree


@dataclass(frozen=True)
class Send:
    """Send this message to the other side."""

    message: Up | Down


# ---- of the cloud machine ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepare:
    """Make the prompt and its frames ready for the target; then `prepared()`."""


@dataclass(frozen=True)
class RunPass:
    """One target pass: its choices after `committed` and after every token of `draft`; then `pass_finished()`.

    The first pass of an action includes the prompt. With `server_tokens` above 0 the server's own draft model first drafts
    that many tokens after `committed`, which `pass_begins()` is told. With a `tree` the pass is over that instead, and
    `draft` is the most promising branch of it.
    """

    committed: tuple[int, ...]
    draft: tuple[int, ...]
    server_tokens: int = 0
    tree: Tree | None = None


@dataclass(frozen=True)
class Wait:
    """Call `waited()` after that time. A late or superfluous call is harmless."""

    milliseconds: float


@dataclass(frozen=True)
class Finished:
    """The target is needed no more: free its caches. Polls are still answered."""


# ---- of the edge machine -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DraftFrom:
    """Draft up to `budget` tokens that follow `prefix`; this replaces the drafting that is going on.

    Report each token by `drafted(run, token, second_choice)`, and `draft_ended(run)` if no more can be had before the
    budget is used and without an end token.
    """

    run: int
    prefix: tuple[int, ...]
    budget: int


@dataclass(frozen=True)
class StopDrafting:
    """Nothing that is being drafted will be of use."""


@dataclass(frozen=True)
class Show:
    """The answer as it stands; its first `committed` tokens are final, the rest is draft."""

    tokens: tuple[int, ...]
    committed: int


@dataclass(frozen=True)
class Counts:
    """What an action took. `drafted` counts tokens that the target verified, `accepted` those that it confirmed.

    `round_trips` is the longest chain edge, cloud, edge that the answer waited for; `drafted_on_edge` counts the draft
    model's tokens, whether they were sent or not. `preemptive` counts the tokens that were drafted behind an early-exit
    prediction, `preemptive_used` those of them that were there when it came true; `predictions` are those that a verdict
    followed, `prediction_hits` those that came true. `branches_used`
    counts the rejections for which a draft was prepared.
    """

    drafted: int = 0
    accepted: int = 0
    passes: int = 0
    round_trips: int = 0
    cloud_busy_ms: float = 0.0
    drafted_on_edge: int = 0
    preemptive: int = 0
    preemptive_used: int = 0
    predictions: int = 0
    prediction_hits: int = 0
    branches_used: int = 0


@dataclass(frozen=True)
class Done:
    """The action has its answer. `verified`: all of it is the target's; `complete`: it is not cut off."""

    tokens: tuple[int, ...]
    outcomes: tuple[TokenOutcome, ...]
    verified: bool
    complete: bool
    counts: Counts


@dataclass(frozen=True)
class Failed:
    """The action has no answer, because of `sentence`."""

    code: str
    sentence: str


CloudCommand = Send | Prepare | RunPass | Wait | Finished
EdgeCommand = Send | DraftFrom | StopDrafting | Show | Done | Failed
