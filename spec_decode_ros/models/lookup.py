"""Prompt lookup: drafts copied from where the last tokens occurred before, in the prompt or in the answer.

Answers repeat their prompt and themselves: a name, a line of code, the beginning of the next item of a list. Where the
last few tokens occurred before, the token that followed them then is drafted, as in prompt lookup decoding (Saxena,
2023). Elsewhere a draft model goes on, or, without one, the draft ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeVar

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken, certain
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, DraftSession
from spec_decode_ros.models.structured_outputs import CompiledGrammar, GrammarMatcher
from spec_decode_ros.models.text import CheckpointText, TextSide

ALONE = 2
"""Tokens that have to recur where there is no draft model; as few as in transformers."""

BESIDE_A_MODEL = 3
"""Tokens that have to recur before a lookup is trusted more than a draft model."""

_LONGEST = 8

T = TypeVar("T", bound=object)


def continuation(tokens: Sequence[int], shortest: int) -> int | None:
    """The token that followed the longest earlier occurrence of the last tokens, of these the latest.

    Args:
        tokens: prompt and answer so far.
        shortest: how many of the last tokens have to have occurred before, at least.
    """
    best, length = None, shortest - 1
    last = len(tokens) - 1
    for end in range(last - 1, shortest - 2, -1):
        if tokens[end] != tokens[last]:
            continue
        same = 1
        while same < _LONGEST and same <= end and tokens[end - same] == tokens[last - same]:
            same += 1
        if same > length:
            best, length = tokens[end + 1], same
            if same == _LONGEST:
                break
    return best


class LookupDrafter(TextSide):
    """Looks up first and asks a draft model otherwise; satisfies `interfaces.Drafter`.

    Args:
        text: the text side of the pair.
        model: the draft model, or None to draft by lookup alone.
        shortest: how many of the last tokens at least have to recur; 0 takes `ALONE` or `BESIDE_A_MODEL`.
        grammar: what answers follow, the model's too; None where they are free.
    """

    def __init__(
        self,
        text: CheckpointText,
        model: Drafter | None = None,
        shortest: int = 0,
        grammar: CompiledGrammar | None = None,
    ) -> None:
        super().__init__(text)
        self._grammar = grammar
        if shortest < 0:
            raise SpecDecodeError(f"a lookup needs at least one token that recurs, not {shortest}")
        self.model = model
        self.shortest = shortest or (BESIDE_A_MODEL if model else ALONE)

    @property
    def grammar(self) -> str:
        return self._grammar.fingerprint if self._grammar else ""

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> LookupSession:
        rendered = self._text.render(prompt, len(images))
        session = self.model.open(prompt, images) if self.model else None
        matcher = self._grammar.matcher() if self._grammar else None
        prompt_ids = self._text.encode_prompt(rendered)
        return LookupSession(prompt_ids, session, self.shortest, self.eos_ids, matcher)


class LookupSession:
    """One prompt; satisfies `interfaces.DraftSession`."""

    def __init__(
        self,
        prompt: Sequence[int],
        model: DraftSession | None,
        shortest: int,
        eos_ids: frozenset[int],
        matcher: GrammarMatcher | None = None,
    ) -> None:
        self._matcher = matcher
        self._prompt = list(prompt)
        self._model = model
        self._shortest = shortest
        self._eos_ids = eos_ids
        self._run = 0  # number of the newest draft; older ones end
        self._looked_up = True  # the newest token

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self._run += 1
        model = partial(self._model.draft, sampling=sampling) if self._model else None
        return self._draft(list(prefix), model, int, int, self._run)

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        self._run += 1
        model = partial(self._model.draft_sampled, sampling=sampling) if self._model else None
        return self._draft(list(prefix), model, certain, attrgetter("token"), self._run)

    def _draft(
        self,
        answer: list[int],
        model: Callable[[Sequence[int]], Iterator[T]] | None,
        looked_up: Callable[[int], T],
        token_of: Callable[[T], int],
        run: int,
    ) -> Iterator[T]:
        """Drafted tokens, in the form in which the model gives them."""
        from_model: Iterator[T] | None = None  # until a token is looked up in between
        while run == self._run and not (answer and answer[-1] in self._eos_ids):
            found = continuation([*self._prompt, *answer], self._shortest)
            if found is not None and self._matcher and not self._matcher.accepts([*answer, found]):
                found = None
            self._looked_up = found is not None
            if found is not None:
                from_model, drafted = None, looked_up(found)
            else:
                from_model = from_model or (model(answer) if model else iter(()))
                following = next(from_model, None)
                if following is None:
                    return
                drafted = following
            answer.append(token_of(drafted))
            yield drafted

    @property
    def runner_up(self) -> tuple[int, float] | None:
        """The draft model's, if the newest token is its own: a lookup knows of one token only."""
        return self._model.runner_up if self._model and not self._looked_up else None

    def close(self) -> None:
        self._run += 1
        if self._model:
            self._model.close()
