"""Several sessions at once, on a model that takes them one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from spec_decode_ros.models.interfaces import Choices, ForwardInput, Verifier, VerifySession

Asked = TypeVar("Asked")
Made = TypeVar("Made")


@runtime_checkable
class Reading(Protocol):
    """A session that takes its prompt in piece by piece."""

    def read(self, count: int) -> None:
        """Take in the next `count` of the `unread` tokens."""
        ...


def one_by_one(do: Callable[[Asked], Made], what: Sequence[Asked]) -> list[Made | Exception]:
    """What `do` makes of each; in the place of a failure, why, as each robot hears of its own."""
    made: list[Made | Exception] = []
    for each in what:
        try:
            made.append(do(each))
        except Exception as error:
            made.append(error)
    return made


def prepare_one_by_one(
    verifier: Verifier, prompts: Sequence[tuple[str, Sequence[bytes]]]
) -> list[VerifySession | Exception]:
    """`Verifier.prepare_many` by `Verifier.prepare`."""
    return one_by_one(lambda prompt: verifier.prepare(*prompt), prompts)


def verify_one_by_one(parts: Sequence[ForwardInput]) -> list[Choices | Exception]:
    """`Verifier.verify_many` by the methods of the sessions."""
    return one_by_one(verify_alone, parts)


def verify_alone(part: ForwardInput) -> Choices:
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
