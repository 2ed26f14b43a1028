"""One forward pass of the target over the inputs of several sessions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from spec_decode_ros.decoding.distribution import warped
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cached_sequence import CachedSequence
from spec_decode_ros.models.decoder import NO_HOOKS, LayerHooks
from spec_decode_ros.models.exits import ExitListener, Exits
from spec_decode_ros.models.hf_model import ChoiceRequest, HfModel, SequenceInput
from spec_decode_ros.models.interfaces import Choices, ForwardInput

_log = logging.getLogger(__name__)

Results = list[Choices | Exception]


class _Planned(NamedTuple):
    """An input that can be computed, the `number`-th of all, and its tokens."""

    number: int
    asked: ForwardInput
    sequence: CachedSequence
    tokens: SequenceInput

    @property
    def positions(self) -> list[int]:
        """Answer positions of its choices."""
        start, tree = len(self.asked.committed), self.asked.tree
        depths = range(len(self.asked.draft)) if tree is None else tree.depths
        return [start, *(start + 1 + depth for depth in depths)] if self.tokens.keep else []


def forward(model: HfModel, exits: Exits | None, inputs: Sequence[ForwardInput]) -> Results:
    """`Verifier.verify_many`: one pass over all inputs where the model packs, else a pass for each.

    What goes wrong with one input is known before the pass (its cache cannot take it, say) or after it (its logits are
    not finite). If a pass over several breaks off, each input gets a pass of its own.
    """
    if len(inputs) > 1 and not model.packs:
        return _one_by_one(model, exits, inputs)
    results: Results = [()] * len(inputs)
    planned: list[_Planned] = []
    for number, asked in enumerate(inputs):
        try:
            sequence = _sequence_of(model, asked)
            if any(other.sequence is sequence for other in planned):
                raise SpecDecodeError(
                    "A session can have only one input in a pass: put the second one into the next."
                )
            if not asked.prefill or sequence.not_prefilled:
                planned.append(_Planned(number, asked, sequence, _plan(sequence, asked)))
        except Exception as error:  # each session gets its own failure
            results[number] = error
    if not planned:
        return results
    try:
        hooks = _exit_hooks(exits, planned, results) if exits else NO_HOOKS
        logits = model.run([each.tokens for each in planned], hooks)
    except Exception as error:
        if len(planned) == 1:
            planned[0].sequence.close()  # the layers of its cache may be at different lengths
            results[planned[0].number] = error
            return results
        _log.warning(
            "A pass over %d sessions broke off; each gets one of its own.", len(planned), exc_info=True
        )
        alone = _one_by_one(model, exits, [each.asked for each in planned])
        for each, result in zip(planned, alone, strict=True):
            results[each.number] = result
        return results
    for each in planned:
        each.sequence.passed()
    _choose(model, logits, planned, results)
    return results


def _one_by_one(model: HfModel, exits: Exits | None, inputs: Sequence[ForwardInput]) -> Results:
    return [forward(model, exits, [each])[0] for each in inputs]


def _sequence_of(model: HfModel, asked: ForwardInput) -> CachedSequence:
    sequence = getattr(asked.session, "sequence", None)
    if not isinstance(sequence, CachedSequence) or sequence.model is not model:
        raise SpecDecodeError("This session is not one of this verifier's.")
    return sequence


def _plan(sequence: CachedSequence, asked: ForwardInput) -> SequenceInput:
    if asked.prefill:
        return sequence.plan_prefill(asked.prefill)
    if asked.tree is None:
        return sequence.plan([*asked.committed, *asked.draft], len(asked.draft) + 1)
    if not sequence.model.decoder.takes_trees:
        raise SpecDecodeError(
            "This target's attention cannot take a token tree in one pass: send drafts without branches."
        )
    if asked.tree.is_line:
        return sequence.plan([*asked.committed, *asked.tree.tokens], len(asked.tree) + 1)
    return sequence.plan(asked.committed, len(asked.tree) + 1, asked.tree)


def _exit_hooks(exits: Exits, planned: Sequence[_Planned], results: Results) -> LayerHooks:
    """Per exit one adapter and one head for the rows of all sessions that want its predictions."""
    rows: list[int] = []
    listeners: list[ExitListener] = []
    end = 0
    for each in planned:
        end += each.tokens.keep
        if each.asked.on_early and not each.tokens.tree and not each.asked.sampling.separate:
            rows += range(end - each.tokens.keep, end)
            on_early = partial(_call_listener, each, results)
            listeners.append(ExitListener(each.positions, each.asked.sampling, on_early, each.tokens.bitmask))

    def notify(layer: int, hidden: torch.Tensor) -> None:
        exits.notify(layer, hidden[rows], listeners)

    return {layer: partial(notify, layer) for layer in exits.layers} if listeners else NO_HOOKS


def _call_listener(
    each: _Planned, results: Results, choices: tuple[int, ...], confidences: tuple[float, ...]
) -> None:
    """A listener that fails makes its own input fail, not the pass."""
    assert each.asked.on_early is not None
    try:
        each.asked.on_early(choices, confidences)
    except Exception as error:
        results[each.number] = error


def _choose(model: HfModel, logits: torch.Tensor, planned: Sequence[_Planned], results: Results) -> None:
    """Put each input's choices, or distributions, in the place of its result."""
    requests: list[ChoiceRequest] = []
    choosing: list[_Planned] = []
    end = 0
    for each in planned:
        rows = range(end, end + each.tokens.keep)
        end = rows.stop
        if not rows or isinstance(results[each.number], Exception):
            continue
        if each.asked.sampling.separate:
            try:
                numbers = logits[rows.start : rows.stop].float().cpu().numpy()
                results[each.number] = tuple(warped(row, each.asked.sampling) for row in numbers)
            except SpecDecodeError as error:
                results[each.number] = error
        else:
            choosing.append(each)
            requests.append(ChoiceRequest(rows, each.positions, each.asked.sampling))
    for each, choices in zip(choosing, model.choose_many(logits, requests), strict=True):
        results[each.number] = choices
