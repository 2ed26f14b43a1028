"""The draft model: answer tokens one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken, certain, draft_token
from spec_decode_ros.decoding.sampling import runner_up
from spec_decode_ros.models.cached_sequence import CachedSequence, logits_after
from spec_decode_ros.models.hf_model import HfSide
from spec_decode_ros.models.interfaces import PromptWithImages, only, try_each
from spec_decode_ros.models.prompts import prepare_many


class HfDrafter(HfSide):
    """A checkpoint that proposes answers; satisfies `interfaces.SharedDrafter`."""

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> HfDraftSession:
        return only(self.open_many([(prompt, images)]))

    def open_many(self, prompts: Sequence[PromptWithImages]) -> list[HfDraftSession | Exception]:
        return [
            made if isinstance(made, Exception) else HfDraftSession(CachedSequence(self.model, made))
            for made in prepare_many(self.model, prompts)
        ]

    def draft_many(
        self, requests: Sequence[tuple[HfDraftSession, Sequence[int], Sampling]], count: int
    ) -> list[list[int] | Exception]:
        drafts = [list(prefix) for _, prefix, _ in requests]
        failures: dict[int, Exception] = {}
        for session, _, _ in requests:
            session.begin()
        for _ in range(count):
            growing = [
                (number, session, tokens, sampling)
                for number, ((session, _, sampling), tokens) in enumerate(zip(requests, drafts, strict=True))
                if number not in failures and session.goes_on(tokens)
            ]
            if not growing:
                break
            forced = try_each(lambda each: each[1].forced_token(each[2]), growing)
            free = [each for each, token in zip(growing, forced, strict=True) if token is None]
            for (number, _, tokens, _), token in zip(growing, forced, strict=True):
                if isinstance(token, Exception):
                    failures[number] = token
                elif token is not None:
                    tokens.append(token)
            rows = logits_after(self.model, [(session.sequence, tokens) for _, session, tokens, _ in free])
            for (number, session, tokens, sampling), logits in zip(free, rows, strict=True):
                try:
                    tokens.append(session.choose(only([logits]), len(tokens), sampling))
                except Exception as error:
                    failures[number] = error
        return [
            failures.get(number) or tokens[len(prefix) :]
            for number, ((_, prefix, _), tokens) in enumerate(zip(requests, drafts, strict=True))
        ]


class HfDraftSession:
    """One prompt on the draft model; satisfies `interfaces.DraftSession`."""

    def __init__(self, sequence: CachedSequence) -> None:
        self.sequence = sequence
        self._run = 0  # number of the newest draft; older ones end
        self._newest: tuple[torch.Tensor, int, Sampling] | None = None

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self.begin()
        return self._draft(list(prefix), sampling, self._run)

    def _draft(self, tokens: list[int], sampling: Sampling, run: int) -> Iterator[int]:
        for step in self._steps(tokens, run):
            tokens.append(step if isinstance(step, int) else self.choose(step, len(tokens), sampling))
            yield tokens[-1]

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        self.begin()
        return self._draft_sampled(list(prefix), sampling, self._run)

    def _draft_sampled(self, tokens: list[int], sampling: Sampling, run: int) -> Iterator[DraftedToken]:
        for step in self._steps(tokens, run):
            if isinstance(step, int):
                drafted = certain(step)
            else:
                drafted = draft_token(step[0].float().cpu().numpy(), len(tokens), sampling)
            tokens.append(drafted.token)
            yield drafted

    def _steps(self, tokens: list[int], run: int) -> Iterator[int | torch.Tensor]:
        """What follows `tokens`, to which the caller adds one each time: a forced token, or else logits (1, vocabulary)."""
        while run == self._run and self.goes_on(tokens):
            forced = self.forced_token(tokens)
            yield self.sequence.logits(tokens, 1) if forced is None else forced

    def forced_token(self, tokens: Sequence[int]) -> int | None:
        """The one token that can follow, for which no pass is made.

        The first token of all gets its pass: the prompt has to go through the model, and what that takes is measured there.
        """
        if self.sequence.not_prefilled:
            return None
        forced = self.sequence.forced_token(tokens)
        if forced is not None:
            self._newest = None
        return forced

    def begin(self) -> None:
        """End the drafts that are under way."""
        self._run += 1

    def goes_on(self, tokens: Sequence[int]) -> bool:
        """Whether a token can follow these: the answer has not ended, and the context has room."""
        model = self.sequence.model
        ended = bool(tokens) and tokens[-1] in model.text.eos_ids
        return len(self.sequence.prompt.ids) + len(tokens) <= model.context and not ended

    def choose(self, logits: torch.Tensor, position: int, sampling: Sampling) -> int:
        """The token chosen from logits (1, vocabulary)."""
        self._newest = logits[-1], position, sampling
        return self.sequence.model.choose(logits, [position], sampling)[0]

    @property
    def runner_up(self) -> tuple[int, float] | None:
        if self._newest is None:
            return None
        logits, position, sampling = self._newest
        return runner_up(logits.float().cpu().numpy(), position, sampling)

    def close(self) -> None:
        self.begin()
        self.sequence.close()
