"""The decoding methods, each a set of independent choices that the two machines follow.

A method is data: the machines look at its fields and never at its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class Method:
    """How edge and cloud share the work on one action.

    `server`       what the server does without a draft; None means that no server takes part.
    `window`       how many tokens the edge drafts beyond the committed ones; 0 means that it drafts none.
    `chunk`        after how many new tokens the edge sends its draft (at its end it sends in any case).
    `redrafts`     draft anew after a rejected token; without it the rest is left to the server.
    `ahead`        draft on while a draft is being verified; without it the edge stops and waits.
    `temporal`     send the last action's answer as a draft with the frame.
    `patience_ms`  how long the server may hold back a pass for a draft that is on its way.
    `early`        take the predictions of the target's early exits as draft tokens, and draft on behind them.
    `yields`       while other robots wait, the server only verifies.
    `branches`     for how many rejections that may come the edge prepares drafts while it waits; 0 for none.
    `adapts`       the controller may change the other choices as the conditions change.
    """

    name: str
    summary: str
    server: ServerMode | None
    window: int
    chunk: int = 1
    redrafts: bool = True
    ahead: bool = False
    temporal: bool = False
    patience_ms: float = 0.0
    early: bool = False
    yields: bool = False
    branches: int = 0
    adapts: bool = False

    def __post_init__(self) -> None:
        if self.window < 0:
            raise SpecDecodeError(
                f"Method {self.name!r}: window must be 0 (no drafts) or more, not {self.window}."
            )
        if self.server is None and not self.window:
            raise SpecDecodeError(
                f"Method {self.name!r} has neither a server nor a window; give it one of them."
            )
        if self.server is ServerMode.VERIFY_ONLY and not self.window:
            raise SpecDecodeError(
                f"Method {self.name!r} would wait for drafts that nobody makes; give it a window."
            )
        if not self.redrafts and (self.server is ServerMode.VERIFY_ONLY or self.yields):
            raise SpecDecodeError(
                f"Method {self.name!r} would leave the rest to a server that waits for drafts; let it redraft."
            )
        if self.early and not (self.window and self.server):
            raise SpecDecodeError(
                f"Method {self.name!r} asks for early exits but has nobody to draft after them; give it a window and "
                "a server."
            )
        if self.branches < 0 or (self.branches and not (self.window and self.server)):
            raise SpecDecodeError(
                f"Method {self.name!r}: branches must be 0 or more, and need a window and a server, not {self.branches}."
            )
        if self.chunk < 1:
            raise SpecDecodeError(f"Method {self.name!r}: chunk must be at least 1, not {self.chunk}.")
        if self.patience_ms < 0:
            raise SpecDecodeError(
                f"Method {self.name!r}: patience_ms must be 0 or more, not {self.patience_ms}."
            )

    @property
    def uses_draft_model(self) -> bool:
        return self.window > 0

    @property
    def uses_cloud(self) -> bool:
        return self.server is not None

    @property
    def drafts_in_cloud_alone(self) -> bool:
        return self.server is ServerMode.SELF_DRAFT and not self.window


WHOLE_ACTION = 64
"""A window that holds any action, so that the edge drafts all of it at once."""

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("edge", "the draft model alone, unverified", server=None, window=WHOLE_ACTION),
        Method("cloud", "the target alone, streamed token by token", server=ServerMode.STREAM, window=0),
        Method(
            "colocated",
            "speculative decoding inside the cloud: draft and target side by side (arXiv 2211.17192)",
            server=ServerMode.SELF_DRAFT,
            window=0,
        ),
        Method(
            "sync",
            "edge-cloud speculative decoding, stop and wait",
            server=ServerMode.VERIFY_ONLY,
            window=4,
            chunk=4,
        ),
        Method(
            "early_exit",
            "stop and wait, but the edge drafts on behind early-exit predictions (arXiv 2505.21594)",
            server=ServerMode.VERIFY_ONLY,
            window=4,
            chunk=4,
            early=True,
        ),
        Method(
            "pipelined",
            "the edge keeps drafting while earlier drafts are verified (PicoSpec, arXiv 2603.19133)",
            server=ServerMode.VERIFY_ONLY,
            window=16,
            chunk=2,
            ahead=True,
        ),
        Method(
            "auto",
            "the whole action drafted ahead, verified with the prefill, a server that never waits",
            server=ServerMode.STREAM,
            window=WHOLE_ACTION,
            chunk=2,
            ahead=True,
            temporal=True,
            early=True,
            branches=4,
            adapts=True,
        ),
    )
}


def method_named(name: str) -> Method:
    """The method of that name; raises SpecDecodeError that lists the names otherwise."""
    try:
        return METHODS[name]
    except KeyError:
        raise SpecDecodeError(f"There is no method {name!r}; choose one of {', '.join(METHODS)}.") from None
