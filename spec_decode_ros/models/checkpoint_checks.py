"""Checks of what else a checkpoint holds: whatever would change the model's words and is not obeyed is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.generation_settings import disobeyed
from spec_decode_ros.models.image_inputs import not_obeyed
from spec_decode_ros.models.pair_config import ModelConfig

_ADAPTERS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapters.safetensors",
)
_GENERATION = "generation_config.json"


class CheckpointError(SpecDecodeError):
    """A checkpoint that cannot be loaded."""


def check_files(side: ModelConfig, location: str, adapters: Path | None) -> None:
    """Raise CheckpointError for adapters, but the ones that are merged, and for generation settings that change words."""
    for name in _ADAPTERS:
        file = _file(side, location, name)
        if file is not None and not (adapters is not None and adapters.exists() and file.samefile(adapters)):
            raise CheckpointError(
                f"The checkpoint {location} holds adapters ({name}), which are not applied: merge them into its weights "
                "(`merge_and_unload` of peft, then `save_pretrained`), or take them out of the folder."
            )
    name = _GENERATION if _file(side, location, _GENERATION) else "config.json"
    settings = _document(_file(side, location, name), location)
    for setting in disobeyed(settings, side.ignored_generation_settings):
        raise CheckpointError(
            f"The checkpoint {location} asks for {setting} {str(settings[setting])[:60]} ({name}), which changes the words "
            f"and is not applied here: to go on without it, write ignored_generation_settings: [{setting}] beside its "
            "location in the pair file."
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, location: str) -> None:
    """Raise CheckpointError for a tokenizer that knows special tokens alone: transformers makes one of no file."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):
        raise CheckpointError(missing_tokenizer(location))


def missing_tokenizer(location: str) -> str:
    """The sentence for a checkpoint without a tokenizer."""
    return (
        f"The checkpoint {location} has no tokenizer: get its tokenizer.json (or vocab.json and merges.txt, or "
        "tokenizer.model) from where its weights are from."
    )


def check_image_settings(side: ModelConfig, location: str, processor: Any, model_type: str) -> None:
    """Raise CheckpointError for settings of the image processor that it does not know, or that are not obeyed."""
    known = set(getattr(processor.valid_kwargs, "__annotations__", {}))
    if unknown := sorted(str(name) for name in side.image_processor if name not in known):
        raise CheckpointError(
            f"The image processor of {location} has no setting {', '.join(unknown)}: correct image_processor in the pair "
            f"file; there are {', '.join(sorted(known - not_obeyed(model_type)))}."
        )
    refused = {name for name in side.image_processor if name in not_obeyed(model_type)}
    if getattr(processor, "do_resize", True) is False and "do_resize" in not_obeyed(model_type):
        refused.add("do_resize")
    if refused:
        raise CheckpointError(
            f"The setting {', '.join(sorted(refused))} of the image processor of {location} is not obeyed here: take it out "
            "of image_processor in the pair file, or out of the checkpoint's preprocessor_config.json."
        )


def _file(side: ModelConfig, location: str, name: str) -> Path | None:
    """A file of the checkpoint, if there is one."""
    if Path(location).is_dir():
        return Path(location) / name if (Path(location) / name).is_file() else None
    try:
        found = cached_file(
            location, name, revision=side.revision, _raise_exceptions_for_missing_entries=False
        )
    except OSError:  # what cannot be reached is reported where it is needed
        return None
    return Path(found) if found else None


def _document(file: Path | None, location: str) -> dict[str, Any]:
    """A JSON object of the checkpoint; empty without the file."""
    if file is None:
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file.name} of the checkpoint {location} is damaged ({type(error).__name__}): get the checkpoint again."
        ) from error
    return document if isinstance(document, dict) else {}
