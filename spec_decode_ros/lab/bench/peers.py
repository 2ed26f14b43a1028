"""transformers' own ways of decoding, with the same models on the same cores, beside which a round trip of 0 is fair."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Spread
from spec_decode_ros.lab.bench.cores import Cores, divided, on
from spec_decode_ros.lab.bench.text import PAIR, WARM_UP

if TYPE_CHECKING:
    from spec_decode_ros.models.hf_model import HfModel

LOOKUP_TOKENS = 10
"""What transformers' documentation passes as `prompt_lookup_num_tokens`."""


@dataclass(frozen=True)
class PeerAnswer:
    """What one call of `generate` returned, without the prompt, and how long it took."""

    tokens: tuple[int, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        return len(self.tokens) / self.seconds


@dataclass(frozen=True)
class PeerAnswers:
    """Answers by peer, one for each prompt, in the prompts' order."""

    answers: Mapping[str, Sequence[PeerAnswer]]

    def tokens_per_s(self, peer: str) -> Spread:
        return Spread.of([answer.tokens_per_s for answer in self.answers[peer]])

    def require_same(self, tokens: Sequence[Sequence[int]], whose: str) -> None:
        """Raise SpecDecodeError unless every peer said the same `tokens`, by prompt, as this project."""
        for peer, answers in self.answers.items():
            for number, (answer, ours) in enumerate(zip(answers, tokens, strict=True)):
                if answer.tokens != tuple(ours):
                    raise SpecDecodeError(
                        f"transformers ({peer}) and {whose} give different tokens for prompt {number}: their times cannot "
                        "be compared"
                    )


def measure_peers(
    prompts: Sequence[str], max_tokens: int, pair: str = PAIR, *, cores: Cores | None = None
) -> PeerAnswers:
    """Answer every prompt greedily by plain `generate`, with the draft model as its assistant, and with prompt lookup.

    All in this process, on all the cores that edge and cloud have together; who goes first changes from prompt to
    prompt.
    """
    from spec_decode_ros.lab.text.prompts import held_out_prompts
    from spec_decode_ros.models.pair import load_pair_config

    cores = cores or divided()
    config = load_pair_config(pair)
    with on(cores.all):
        draft, target = _both_models(config, len(cores.all))
        ways: dict[str, dict[str, Any]] = {
            "generate": {},
            "assisted generation": {"assistant_model": draft.model},
            "prompt lookup": {"prompt_lookup_num_tokens": LOOKUP_TOKENS},
        }
        for prompt in held_out_prompts(WARM_UP, 1):
            for way in ways.values():
                _answer(target, prompt, min(max_tokens, 8), way)
        answers: dict[str, list[PeerAnswer]] = {name: [] for name in ways}
        for count, prompt in enumerate(prompts):
            for name in list(ways) if count % 2 == 0 else list(reversed(ways)):
                answers[name].append(_answer(target, prompt, max_tokens, ways[name]))
    return PeerAnswers(answers)


def _both_models(config: Any, threads: int) -> tuple[HfModel, HfModel]:
    from dataclasses import replace

    from spec_decode_ros.models.loading import load_model
    from spec_decode_ros.models.pair import resolve_location

    draft, target = (
        load_model(
            replace(side, threads=threads), resolve_location(side, config.folder), config.chat_template
        )
        for side in (config.draft, config.target)
    )
    return draft, target


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
    return PeerAnswer(tokens, time.perf_counter() - start)
