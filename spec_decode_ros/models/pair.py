"""Loading the two sides of a pair; torch and transformers are imported when the first is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec_decode_ros.models.pair_config import ModelConfig, PairConfig, load_pair_config, resolve_location

if TYPE_CHECKING:
    from spec_decode_ros.models.drafter import HfDrafter
    from spec_decode_ros.models.lookup import LookupDrafter
    from spec_decode_ros.models.verifier import HfVerifier


def _pair(pair: PairConfig | str | Path) -> PairConfig:
    return pair if isinstance(pair, PairConfig) else load_pair_config(pair)


def _override(model: ModelConfig, device: str | None, threads: int | None) -> ModelConfig:
    changes: dict[str, Any] = {"device": device, "threads": threads}
    return replace(model, **{name: value for name, value in changes.items() if value is not None})


def load_drafter(
    pair: PairConfig | str | Path, device: str | None = None, threads: int | None = None
) -> HfDrafter | LookupDrafter:
    """Load the draft side; `device` and `threads` override the pair file."""
    from spec_decode_ros.models.drafter import HfDrafter
    from spec_decode_ros.models.loading import load_side
    from spec_decode_ros.models.lookup import LookupDrafter

    config = _pair(pair)
    side = _override(config.draft, device, threads)
    model = load_side(config, side)
    drafter = HfDrafter(model)
    return LookupDrafter(model.text, drafter, config.lookup, model.grammar) if config.lookup else drafter


def load_verifier(
    pair: PairConfig | str | Path, device: str | None = None, threads: int | None = None
) -> HfVerifier:
    """Load the target side; `device` and `threads` override the pair file."""
    from spec_decode_ros.models.loading import load_whole_verifier
    from spec_decode_ros.models.parallel import load_parallel

    config = _pair(pair)
    config = replace(config, target=_override(config.target, device, threads))
    return load_whole_verifier(config) if config.target.tensor_parallel == 1 else load_parallel(config)


def check_pair(pair: PairConfig | str | Path) -> None:
    """Raise VocabularyMismatch unless draft and target share a vocabulary; loads the two tokenizers only."""
    from spec_decode_ros.models.loading import load_tokenizer
    from spec_decode_ros.models.vocabulary import require_same_vocabulary

    config = _pair(pair)
    sides = (config.draft, config.target)
    require_same_vocabulary(*(load_tokenizer(side, resolve_location(side, config.folder)) for side in sides))


def load_pair(
    pair: PairConfig | str | Path, device: str | None = None, threads: int | None = None
) -> tuple[HfDrafter | LookupDrafter, HfVerifier]:
    """Both sides in one process. Raises VocabularyMismatch, before any weights are read, if they do not fit."""
    config = _pair(pair)
    check_pair(config)
    return load_drafter(config, device, threads), load_verifier(config, device, threads)
