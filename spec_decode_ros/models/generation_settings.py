"""Generation settings of checkpoints that change which token is chosen. They are not applied here. Without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1, None),
    "encoder_repetition_penalty": (1, None),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "bad_words_ids": (None, []),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "forced_decoder_ids": (None, []),
    "force_words_ids": (None, []),
    "sequence_bias": (None, [], {}),
    "exponential_decay_length_penalty": (None,),
    "min_length": (0, None),
    "min_new_tokens": (0, None),
    "num_beams": (1, None),
    "num_beam_groups": (1, None),
    "diversity_penalty": (0, None),
    "penalty_alpha": (0, None),
    "dola_layers": (None,),
    "guidance_scale": (1, None),
    "watermarking_config": (None,),
    "stop_strings": (None, []),
}
"""The settings, and the values with which each changes nothing. Temperature, top-k and the like are not among them: how
tokens are sampled is asked for with every action."""


def disobeyed(document: Mapping[str, Any], ignored: Collection[str]) -> list[str]:
    """The settings of a generation configuration that change the words, but for those that are `ignored`."""
    return [
        name
        for name, neutral in NEUTRAL.items()
        if name in document and name not in ignored and document[name] not in neutral
    ]
