"""The messages between edge and cloud.

Plain frozen values made of int, float, str, bool, bytes, enums and tuples of numbers, so that a codec needs no
knowledge of the methods. Every message either repeats harmlessly or carries the position that makes it so:
a lost, repeated, late or reordered message may cost time and never changes the answer.

Positions count answer tokens from 0; the prompt is not counted. The *committed* sequence is the one that
the cloud holds; a draft is a hint at what follows a position in it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from spec_decode_ros.decoding.message_checks import check_id, check_position, check_settled, token_tuple
from spec_decode_ros.errors import SpecDecodeError

PROTOCOL = 6
"""Version of this vocabulary; `Hello` and `Welcome` compare it."""

MAX_RETRY_MS = 600_000.0

MAX_BRANCH_NODES = 64
"""Tokens of one `Branches`, at most."""


class ServerMode(enum.Enum):
    """What the server does when no usable draft is waiting."""

    STREAM = "stream"
    """Go on alone, a token a pass, and say each token at once (lowest latency)."""
    VERIFY_ONLY = "verify_only"
    """Wait for a draft (fewest passes). The prompt is still prefilled at once."""
    SELF_DRAFT = "self_draft"
    """Draft with the server's own draft model and verify that; stream where it has none."""


class TokenOutcome(enum.IntEnum):
    """What became of a token of the answer."""

    ACCEPTED = 0
    """Drafted, and the target chose the same."""
    RECOVERED = 1
    """The target's token in the place of a rejected draft token."""
    BONUS = 2
    """The target's token where there was no draft."""
    UNVERIFIED = 3
    """The draft's token that no target has seen; never sent by a server."""

    @property
    def label(self) -> str:
        return self.name.lower()


class ErrorCode:
    """The values of `Error.code`; a plain string, so that an older edge survives a newer server."""

    MISMATCH = "mismatch"
    UNKNOWN_ACTION = "unknown_action"
    BAD_MESSAGE = "bad_message"
    BUSY = "busy"
    DRAINING = "draining"
    MODEL_FAILED = "model_failed"
    DEADLINE = "deadline"


class Sampler(enum.Enum):
    """How draft and target agree on tokens above temperature 0."""

    GUMBEL = "gumbel"
    """The same seeded noise on both sides (`sampling.py`): the tokens of the target alone."""
    REJECTION = "rejection"
    """Separate rejection sampling (`rejection.py`): the distribution of the target alone."""


SAMPLERS = tuple(sampler.value for sampler in Sampler)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: temperature 0 is greedy, above 0 by `sampler`, which may be given by its name.

    `top_k` 0 and `top_p` 1 switch those warpers off.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    sampler: Sampler = Sampler.GUMBEL

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "sampler", Sampler(self.sampler))
        except ValueError:
            raise SpecDecodeError(
                f"There is no sampler {self.sampler!r}; choose one of {', '.join(SAMPLERS)}."
            ) from None
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SpecDecodeError(f"temperature must be 0 (greedy) or positive, not {self.temperature}.")
        if self.top_k < 0:
            raise SpecDecodeError(f"top_k must be 0 (off) or a positive count, not {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise SpecDecodeError(f"top_p must be above 0 and at most 1 (off), not {self.top_p}.")
        if not 0 <= self.seed < 2**64:
            raise SpecDecodeError(f"seed must be from 0 to 2**64 - 1, not {self.seed}.")

    @property
    def separate(self) -> bool:
        """Whether separate rejection sampling decides; greedy choices need none."""
        return self.temperature > 0 and self.sampler is Sampler.REJECTION


# ---- up: edge to cloud -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """First message of a connection.

    `pair` names the model pair, `vocabulary` is its fingerprint, `grammar` that of what its answers are constrained to,
    empty where they are free.
    """

    protocol: int
    pair: str
    vocabulary: str
    grammar: str = ""


@dataclass(frozen=True)
class Open:
    """Begin one action (the frames travel beside it). Repeating it is harmless.

    `draft` is a draft of the whole answer that is there already, such as the last verified action. Its first
    `settled` tokens are final: an earlier server has committed them (only with rejection sampling,
    where a server can't find them again by itself). `early` asks
    for `Early` messages. `yields`: while other robots wait, the server only verifies, whatever `mode` says.
    `patience_ms` is how long the server may hold back a pass for which it has no draft, because one is on its
    way; 0 never waits.
    """

    action_id: int
    prompt: str
    images: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    mode: ServerMode = ServerMode.STREAM
    draft: tuple[int, ...] = ()
    max_tokens: int = 64
    patience_ms: float = 0.0
    early: bool = False
    yields: bool = False
    settled: int = 0

    def __post_init__(self) -> None:
        check_id(self.action_id)
        object.__setattr__(self, "draft", token_tuple(self.draft))
        check_settled(self.settled, self.draft)
        if self.images < 0:
            raise SpecDecodeError(f"images must be a count, not {self.images}.")
        if self.max_tokens < 1:
            raise SpecDecodeError(f"max_tokens must be at least 1, not {self.max_tokens}.")
        if not 0 <= self.patience_ms <= 10_000:
            raise SpecDecodeError(f"patience_ms must be from 0 to 10000, not {self.patience_ms}.")


@dataclass(frozen=True)
class Draft:
    """The edge knows the committed tokens before `position` and drafts that `tokens` follow.

    Each draft stands alone: it carries all draft tokens since `position`, so a lost one needs no mending.
    `final` says that nothing more will follow these tokens. Without tokens it is a poll ("tell me everything
    from `position` on"); without tokens and final it also says "I have nothing to propose, go on alone".
    `round` is 1 + the `rounds` of the newest `Committed` that the edge had when it drafted.

    With rejection sampling there is one number of `probabilities` for each token, what the draft model gave
    it, and the first `settled` tokens are final: the edge has drawn them in the place of rejected ones, or has
    them from an earlier server. Then `final` says that the edge drafts nothing in the place after these tokens.
    """

    action_id: int
    position: int
    tokens: tuple[int, ...] = ()
    final: bool = False
    round: int = 1
    probabilities: tuple[float, ...] = ()
    settled: int = 0

    def __post_init__(self) -> None:
        check_id(self.action_id)
        check_position(self.position)
        object.__setattr__(self, "tokens", token_tuple(self.tokens))
        object.__setattr__(self, "probabilities", tuple(float(each) for each in self.probabilities))
        if len(self.probabilities) not in (0, len(self.tokens)):
            raise SpecDecodeError(
                f"{len(self.tokens)} draft tokens have as many probabilities or none, not {len(self.probabilities)}."
            )
        if not all(0 < each <= 1 for each in self.probabilities):  # nor NaN
            raise SpecDecodeError("The probability of a drafted token must be above 0 and at most 1.")
        check_settled(self.settled, self.tokens)
        if self.round < 1:
            raise SpecDecodeError(f"round counts from 1, not {self.round}.")


@dataclass(frozen=True)
class Branches:
    """Branches: what may follow the committed tokens before `position` instead of the draft, as a tree.

    Node i is `tokens[i]` after node `parents[i]`, or right at `position` where `parents[i]` is i itself. `round` is
    that of `Draft`. Of several the one from the latest position counts, of those the largest.
    """

    action_id: int
    position: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    round: int = 1

    def __post_init__(self) -> None:
        check_id(self.action_id)
        check_position(self.position)
        object.__setattr__(self, "tokens", token_tuple(self.tokens))
        object.__setattr__(self, "parents", token_tuple(self.parents))
        if not 1 <= len(self.tokens) == len(self.parents) <= MAX_BRANCH_NODES:
            raise SpecDecodeError(f"Branches have 1 to {MAX_BRANCH_NODES} tokens, with one parent each.")
        if any(parent > node for node, parent in enumerate(self.parents)):
            raise SpecDecodeError("The parent of a node must stand before it.")
        if self.round < 1:
            raise SpecDecodeError(f"round counts from 1, not {self.round}.")

    @property
    def lines(self) -> tuple[tuple[int, ...], ...]:
        """Every branch from `position` to its last token."""
        lines: list[tuple[int, ...]] = []
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            lines.append((token,) if parent == node else (*lines[parent], token))
        inner = {parent for node, parent in enumerate(self.parents) if parent != node}
        return tuple(line for node, line in enumerate(lines) if node not in inner)


@dataclass(frozen=True)
class Close:
    """The edge needs nothing more of this action."""

    action_id: int

    def __post_init__(self) -> None:
        check_id(self.action_id)


@dataclass(frozen=True)
class Ping:
    """Answered with a `Pong` of the same stamp (the sender's own clock, any unit)."""

    stamp: int


# ---- down: cloud to edge -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Welcome:
    """Answer to `Hello`. `eos` are the token ids that end an answer; `target_fingerprint` tells the target's weights from
    others, and is empty where they are not known; `grammar` is that of `Hello`.

    `step_ms` is what a target pass takes and `per_token_ms` what each draft token adds to it; `server_draft_ms` is a token
    of the server's own draft model and `server_draft_prefill_ms` its prompt. 0 says nothing.
    """

    protocol: int
    pair: str
    vocabulary: str
    eos: tuple[int, ...] = ()
    step_ms: float = 0.0
    server_draft_ms: float = 0.0
    per_token_ms: float = 0.0
    server_draft_prefill_ms: float = 0.0
    target_fingerprint: str = ""
    grammar: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "eos", token_tuple(self.eos))


@dataclass(frozen=True)
class Opened:
    """The action was received and is being prepared."""

    action_id: int

    def __post_init__(self) -> None:
        check_id(self.action_id)


@dataclass(frozen=True)
class Committed:
    """Final tokens from `position` on, with one outcome each. `done` says that the answer ends with them.

    The counts are of the whole action so far, so a lost message takes none with it: target forward
    `passes`, draft tokens verified (`drafted`), target compute in milliseconds (`busy_ms`), and `rounds`, the
    length of the longest chain edge, cloud, edge, cloud, ... that these tokens waited for.

    With `sparse`, the draft token after these was rejected by rejection sampling, and the edge shall draw
    another from what it had drafted from and from this: the target's distribution as `sparse.pack` packs it.
    """

    action_id: int
    position: int
    tokens: tuple[int, ...] = ()
    outcomes: tuple[TokenOutcome, ...] = ()
    done: bool = False
    passes: int = 0
    drafted: int = 0
    busy_ms: float = 0.0
    rounds: int = 1
    sparse: bytes = b""

    def __post_init__(self) -> None:
        check_id(self.action_id)
        check_position(self.position)
        object.__setattr__(self, "tokens", token_tuple(self.tokens))
        try:
            object.__setattr__(self, "outcomes", tuple(TokenOutcome(outcome) for outcome in self.outcomes))
        except ValueError as error:
            raise SpecDecodeError(
                f"An outcome must be from 0 to {len(TokenOutcome) - 1}: {error}."
            ) from error
        if len(self.outcomes) != len(self.tokens):
            raise SpecDecodeError(
                f"{len(self.tokens)} tokens need as many outcomes, not {len(self.outcomes)}."
            )


@dataclass(frozen=True)
class Early:
    """What an early exit predicts in the middle of a pass: the `tokens` from `position` on that it is going to commit.

    The exit was at least `confidence` sure of each. Nothing is final before `Committed` says so.
    """

    action_id: int
    position: int
    tokens: tuple[int, ...]
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check_id(self.action_id)
        check_position(self.position)
        object.__setattr__(self, "tokens", token_tuple(self.tokens))
        if not 0 <= self.confidence <= 1:
            raise SpecDecodeError(f"confidence must be from 0 to 1, not {self.confidence}.")


@dataclass(frozen=True)
class Error:
    """The action (or, with `action_id` 0, the connection) has failed; `sentence` says why and what helps.

    `retry_ms` is when asking again may help: the server is full for now (`BUSY`); 0 where it will not.
    """

    action_id: int
    code: str
    sentence: str
    retry_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.retry_ms <= MAX_RETRY_MS:
            raise SpecDecodeError(f"retry_ms must be from 0 to {MAX_RETRY_MS:.0f}, not {self.retry_ms}.")


@dataclass(frozen=True)
class Pong:
    """Answer to `Ping`, also for who has not said hello; `target_fingerprint` is that of `Welcome`."""

    stamp: int
    target_fingerprint: str = ""


Up = Hello | Open | Draft | Branches | Close | Ping
Down = Welcome | Opened | Committed | Early | Error | Pong
Message = Up | Down
