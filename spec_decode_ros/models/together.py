"""Several sessions at once, on a model that takes them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from spec_decode_ros.models.interfaces import Choices, Part, Verifier, VerifySession


@runtime_checkable
class Reading(Protocol):
    """A session that takes its prompt in piece by piece."""

    def read(self, count: int) -> None:
        """Take in the next `count` of the `unread` tokens."""
        ...


def prepare_one_by_one(
    verifier: Verifier, prompts: Sequence[tuple[str, Sequence[bytes]]]
) -> list[VerifySession | Exception]:
    """`Verifier.prepare_many` by `Verifier.prepare`."""
    prepared: list[VerifySession | Exception] = []
    for prompt, images in prompts:
        try:
            prepared.append(verifier.prepare(prompt, images))
        except Exception as error:  # each robot hears of its own failure
            prepared.append(error)
    return prepared


def verify_one_by_one(parts: Sequence[Part]) -> list[Choices | Exception]:
    """`Verifier.verify_many` by the methods of the sessions."""
    results: list[Choices | Exception] = []
    for part in parts:
        try:
            results.append(verify_alone(part))
        except Exception as error:
            results.append(error)
    return results


def verify_alone(part: Part) -> Choices:
    """What a part gets in a pass of its own; a session that cannot `read` takes its prompt in with the first choice."""
    session, committed, sampling = part.session, part.committed, part.sampling
    if part.prefill:
        if isinstance(session, Reading):
            session.read(part.prefill)
        return ()
    if sampling.separate:
        return session.distributions(committed, part.draft, sampling)
    if part.tree is not None:
        return session.verify_tree(committed, part.tree, sampling)
    return session.verify(committed, part.draft, sampling, part.on_early)
