"""The text suite: answers of a language model by every method over emulated links, and by transformers' own decoding.

Prompts are made from templates that no draft model was distilled on (`lab/text/templates.py`). `plan_suite` decodes
prompts of its own in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import ComparisonPlan, MethodComparison, Sample, decode_in_turns
from spec_decode_ros.lab.bench.machine import pinned_to, split_cores
from spec_decode_ros.lab.text.prompts import held_out_prompts
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client

if TYPE_CHECKING:
    from spec_decode_ros.models.hf_model import HfModel

TOKENS_PER_S = "tokens_per_s"
"""Metric of suites of text: tokens of the answer over the time to the verified answer."""

TOKENS = "tokens"
"""Metric of suites of text: tokens of the answer, its end included."""

_DEADLINE_S = 300.0
_WARM_UP = 2
_LOOKUP_TOKENS = 10
"""What transformers' documentation passes as `prompt_lookup_num_tokens`."""

_SEED = 5000  # far from the seeds by which draft models are measured while they are trained


class SuitePrompts(NamedTuple):
    """Prompts to measure on, those that come before, and by name groups of those measured, as their indices."""

    measured: Sequence[str]
    warm_up: Sequence[str]
    groups: Mapping[str, Sequence[int]] = MappingProxyType({})


def text_prompts(count: int, seed: int = 0) -> SuitePrompts:
    """Prompts of the text suite."""
    return SuitePrompts(held_out_prompts(count, _SEED + seed), held_out_prompts(_WARM_UP, _SEED - 1))


def decode_texts(
    prompts: SuitePrompts, plan: ComparisonPlan, pair: str
) -> Callable[[Drafter, Client], MethodComparison]:
    """The comparison of one link: every method, and with `auto` a row `auto (lookup)` without a draft model."""
    if plan.max_tokens < 1:
        raise SpecDecodeError(f"an answer has at least one token, not {plan.max_tokens}")
    lookup = _lookup_drafter(pair) if "auto" in plan.methods else None

    def decode(drafter: Drafter, client: Client) -> MethodComparison:
        contestants = {name: (drafter, name) for name in plan.methods}
        if lookup:
            contestants["auto (lookup)"] = (lookup, "auto")
        return _compare(prompts, plan, contestants, client)

    return decode


def _lookup_drafter(pair: str) -> Drafter:
    from spec_decode_ros.models.lookup import LookupDrafter

    return LookupDrafter(_model(pair, "draft").text)


def _model(pair: str, side: str, threads: int | None = None) -> HfModel:
    """The model of one side of a pair, with other threads than the pair says."""
    from spec_decode_ros.models.loading import load_model
    from spec_decode_ros.models.pair_config import load_pair_config

    config = load_pair_config(pair)
    chosen = config.draft if side == "draft" else config.target
    chosen = chosen if threads is None else replace(chosen, threads=threads)
    return load_model(chosen, config.folder, config.chat)


def _compare(
    prompts: SuitePrompts,
    plan: ComparisonPlan,
    contestants: Mapping[str, tuple[Drafter, str]],
    client: Client,
) -> MethodComparison:
    """Decode every prompt by every contestant, which is a drafter and a method."""
    with ExitStack() as stack:
        runtimes = {}
        for name, (drafter, method) in contestants.items():
            runtime = EdgeRuntime(
                drafter, client, method, deadline_s=_DEADLINE_S, max_tokens=plan.max_tokens, fallback=False
            )
            runtimes[name] = stack.enter_context(runtime)
        for prompt in prompts.warm_up[: plan.warm_up]:
            decode_in_turns(runtimes, [(prompt, (), ())], plan.sampling)
        results = decode_in_turns(runtimes, [(prompt, (), ()) for prompt in prompts.measured], plan.sampling)
    for result in (result for answers in results.values() for result in answers):
        result.stats[TOKENS] = len(result.tokens)
        result.stats[TOKENS_PER_S] = 1000.0 * len(result.tokens) / float(result.stats["ttva_ms"] or 1)
    samples = [Sample(b"", prompt, None) for prompt in prompts.measured]
    return MethodComparison(samples, results, (*METRICS, TOKENS, TOKENS_PER_S), prompts.groups)


class PeerAnswer(NamedTuple):
    """An answer by transformers' own decoding, without the prompt."""

    tokens: tuple[int, ...]
    tokens_per_s: float


PeerAnswers = Mapping[str, Sequence[PeerAnswer]]
"""By way of decoding, one for each prompt in the order of the prompts."""


def require_same(answers: PeerAnswers, tokens: Sequence[Sequence[int]], whose: str) -> None:
    """Raise SpecDecodeError unless every answer has the tokens that the method `whose` gave for the prompt."""
    for peer, given in answers.items():
        for number, (answer, ours) in enumerate(zip(given, tokens, strict=True)):
            if answer.tokens != tuple(ours):
                raise SpecDecodeError(
                    f"transformers ({peer}) and {whose} give different tokens for prompt {number}: their times cannot "
                    "be compared"
                )


def measure_peers(prompts: SuitePrompts, max_tokens: int, pair: str) -> PeerAnswers:
    """Answer every prompt greedily by `generate` in its three ways, in an order that alternates between prompts.

    It uses all the cores that edge and cloud have together.
    """
    cores = split_cores().all
    with pinned_to(cores):
        draft, target = (_model(pair, side, len(cores)) for side in ("draft", "target"))
        ways: dict[str, dict[str, Any]] = {
            "generate": {},
            "assisted generation": {"assistant_model": draft.model},
            "prompt lookup": {"prompt_lookup_num_tokens": _LOOKUP_TOKENS},
        }
        for prompt in prompts.warm_up:
            for way in ways.values():
                _answer(target, prompt, min(max_tokens, 8), way)
        answers: dict[str, list[PeerAnswer]] = {name: [] for name in ways}
        for count, prompt in enumerate(prompts.measured):
            for name in ways if count % 2 == 0 else reversed(list(ways)):
                answers[name].append(_answer(target, prompt, max_tokens, ways[name]))
    return answers


def _answer(target: HfModel, prompt: str, max_tokens: int, way: dict[str, Any]) -> PeerAnswer:
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # generate warns about settings that it makes itself
    start = time.perf_counter()
    ids = torch.tensor([target.text.encode_prompt(target.text.render(prompt, 0))])
    with torch.inference_mode():
        whole: Any = target.model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_tokens,
            pad_token_id=min(target.text.eos_ids),
            **way,
        )
    tokens = tuple(whole[0, ids.shape[1] :].tolist())
    return PeerAnswer(tokens, len(tokens) / (time.perf_counter() - start))
