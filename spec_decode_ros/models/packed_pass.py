"""Several sessions of one model in one pass: what each puts in laid side by side, and the logits dealt out again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from spec_decode_ros.decoding.distribution import warped
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.answer import CachedSequence, SequenceInput
from spec_decode_ros.models.decoder import NOBODY, AfterLayer
from spec_decode_ros.models.exits import Exits, Watcher
from spec_decode_ros.models.hf_model import HfModel, Wanted
from spec_decode_ros.models.interfaces import Choices, ForwardInput, OnEarly
from spec_decode_ros.models.together import one_by_one, verify_alone

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Placed:
    """A part that can be computed, the `index`-th of all, with its answer's addition."""

    index: int
    part: ForwardInput
    addition: SequenceInput

    @property
    def positions(self) -> list[int]:
        """Answer positions of its choices."""
        start, tree = len(self.part.committed), self.part.tree
        depths = range(len(self.part.draft)) if tree is None else tree.depths
        return [start, *(start + 1 + depth for depth in depths)] if self.addition.keep else []


def verify_packed(
    model: HfModel, exits: Exits | None, parts: Sequence[ForwardInput]
) -> list[Choices | Exception]:
    """`Verifier.verify_many` for a model that `packs`.

    What goes wrong with one part is known before the pass (its cache cannot take it, say) or after it (its logits are
    not finite). If the pass as such breaks off, each part is tried in a pass of its own.
    """
    results: list[Choices | Exception] = [()] * len(parts)
    placed: list[_Placed] = []
    taken: set[int] = set()
    for index, part in enumerate(parts):
        try:
            answer = _answer(model, part)
            if id(answer) in taken:
                raise SpecDecodeError(
                    "A session can have only one part in a pass: put the second one into the next."
                )
            taken.add(id(answer))
            if not part.prefill or answer.unread:
                placed.append(_Placed(index, part, _plan(answer, part)))
        except Exception as error:  # each session hears of its own failure
            results[index] = error
    if not placed:
        return results
    try:
        watch = _watch(exits, placed, results) if exits else NOBODY
        logits = model.run_many([each.addition for each in placed], watch)
    except Exception:
        _log.warning(
            "A pass over %d sessions broke off; each gets one of its own.", len(placed), exc_info=True
        )
        alone = one_by_one(verify_alone, [each.part for each in placed])
        for each, result in zip(placed, alone, strict=True):
            results[each.index] = result
        return results
    for each in placed:
        each.addition.answer.hold(each.addition)
    _deal_out(model, logits, placed, results)
    return results


def _answer(model: HfModel, part: ForwardInput) -> CachedSequence:
    answer = getattr(part.session, "answer", None)
    if not isinstance(answer, CachedSequence) or answer.model is not model:
        raise SpecDecodeError("This session is not one of this verifier's.")
    return answer


def _plan(answer: CachedSequence, part: ForwardInput) -> SequenceInput:
    if part.prefill:
        return answer.plan_reading(part.prefill)
    if part.tree is None:
        return answer.plan([*part.committed, *part.draft], len(part.draft) + 1)
    if part.tree.is_line:
        return answer.plan([*part.committed, *part.tree.tokens], len(part.tree) + 1)
    return answer.plan(part.committed, len(part.tree) + 1, part.tree)


def _watch(exits: Exits, placed: Sequence[_Placed], results: list[Choices | Exception]) -> AfterLayer:
    """What to do at each exit: one adapter and one head for the rows of all sessions that want to know."""
    rows: list[int] = []
    watchers: list[Watcher] = []
    end = 0
    for each in placed:
        end += each.addition.keep
        if each.part.on_early and not each.addition.tree and not each.part.sampling.separate:
            rows += range(end - each.addition.keep, end)
            on_early = _guarded(each.part.on_early, each.index, results)
            watchers.append(Watcher(each.positions, each.part.sampling, on_early))
    if not watchers:
        return NOBODY
    return {
        layer: lambda hidden, layer=layer: exits.tell(layer, hidden[rows], watchers)  # type: ignore[misc]
        for layer in exits.layers
    }


def _guarded(on_early: OnEarly, index: int, results: list[Choices | Exception]) -> OnEarly:
    """`on_early`, whose failure is that of its own part."""

    def told(choices: tuple[int, ...], sure: tuple[float, ...]) -> None:
        try:
            on_early(choices, sure)
        except Exception as error:
            results[index] = error

    return told


def _deal_out(
    model: HfModel, logits: torch.Tensor, placed: Sequence[_Placed], results: list[Choices | Exception]
) -> None:
    wanted: list[Wanted] = []
    choosing: list[_Placed] = []
    end = 0
    for each in placed:
        rows = range(end, end + each.addition.keep)
        end = rows.stop
        if not rows or isinstance(results[each.index], Exception):
            continue
        if each.part.sampling.separate:
            try:
                numbers = logits[rows.start : rows.stop].float().cpu().numpy()
                results[each.index] = tuple(warped(row, each.part.sampling) for row in numbers)
            except SpecDecodeError as error:
                results[each.index] = error
        else:
            choosing.append(each)
            wanted.append(Wanted(rows, each.positions, each.part.sampling))
    for each, choices in zip(choosing, model.choose_many(logits, wanted), strict=True):
        results[each.index] = choices


def logits_after(
    model: HfModel, asked: Sequence[tuple[CachedSequence, Sequence[int]]]
) -> list[torch.Tensor | Exception]:
    """Logits (1, vocabulary) that follow each of several answers as far as it is given, in one pass where that can be."""
    alone = partial(one_by_one, lambda each: each[0].logits(each[1], 1), asked)
    if len(asked) == 1 or not model.packs:
        return alone()
    planned = one_by_one(lambda each: each[0].plan(each[1], 1), asked)
    additions = [each for each in planned if isinstance(each, SequenceInput)]
    try:
        rows = iter(model.run_many(additions).split(1) if additions else ())
    except Exception:
        _log.warning("A pass over %d drafts broke off; each gets one of its own.", len(asked), exc_info=True)
        return alone()
    for addition in additions:
        addition.answer.hold(addition)
    return [each if isinstance(each, Exception) else next(rows) for each in planned]
