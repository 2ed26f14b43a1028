"""Several sessions at once, on a model that takes them one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from spec_decode_ros.models.interfaces import Choices, Part, Verifier, VerifySession


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
    """`Verifier.verify_many` by the methods of the sessions; a part that only prefills does nothing."""
    results: list[Choices | Exception] = []
    for part in parts:
        try:
            results.append(() if part.prefill else _verify(part))
        except Exception as error:
            results.append(error)
    return results


def _verify(part: Part) -> Choices:
    session, committed, sampling = part.session, part.committed, part.sampling
    if sampling.separate:
        return session.distributions(committed, part.draft, sampling)
    if part.tree is not None:
        return session.verify_tree(committed, part.tree, sampling)
    return session.verify(committed, part.draft, sampling, part.on_early)
