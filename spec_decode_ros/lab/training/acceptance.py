"""Acceptance of a drafter's tokens by its target, measured by speculative decoding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.interfaces import Drafter, Verifier

DRAFTED = 4
"""Draft tokens in a pass."""


@dataclass(frozen=True)
class Acceptance:
    """Counts over all answers.

    Attributes:
        tokens: tokens of the answers.
        passes: forward passes of the target.
        judged: drafted tokens up to and including the first rejected one of each pass.
        accepted: the accepted ones among these.
    """

    tokens: int
    passes: int
    judged: int
    accepted: int

    @property
    def rate(self) -> float:
        """Share of the judged tokens that the target accepts."""
        return self.accepted / max(1, self.judged)

    @property
    def length(self) -> float:
        """Accepted length: tokens committed per target pass."""
        return self.tokens / max(1, self.passes)


def measured(
    drafter: Drafter,
    verifier: Verifier,
    prompts: Sequence[str],
    sampling: Sampling,
    max_tokens: int = 64,
) -> Acceptance:
    """Decode an answer to each prompt; the seeds count up from that of `sampling`."""
    tokens = passes = judged = accepted = 0
    for number, prompt in enumerate(prompts):
        seeded = Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed + number)
        drafting, verifying = drafter.open(prompt), verifier.prepare(prompt)
        answer: list[int] = []
        while len(answer) < max_tokens and not (answer and answer[-1] in verifier.eos_ids):
            draft = tuple(itertools.islice(drafting.draft(answer, seeded), DRAFTED))
            choices = verifying.verify(answer, draft, seeded)
            held = 0
            while held < len(draft) and draft[held] == choices[held]:
                held += 1
            if held and draft[held - 1] in verifier.eos_ids:
                answer += draft[:held]
            else:
                answer += choices[: held + 1]
            judged += min(held + 1, len(draft))
            accepted += held
            passes += 1
        tokens += len(answer)
        drafting.close()
        verifying.close()
    return Acceptance(tokens, passes, judged, accepted)
