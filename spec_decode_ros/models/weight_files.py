"""Checks of weight files: safetensors only, as a pickle can run any program when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError

NEVER_CODE: dict[str, Any] = {"trust_remote_code": False}
"""For everything that transformers reads: a checkpoint's own program code is never run, nor asked for."""

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


class WeightFilesError(SpecDecodeError):
    """A checkpoint whose weights are not in safetensors files."""


def check_weight_files(location: str) -> None:
    """Raise WeightFilesError for a folder that has its weights in pickles only, or whose index leads to other files."""
    folder = Path(location)
    if not folder.is_dir():
        return  # a hub id: transformers gets `use_safetensors`
    pickles = sorted(path.name for kind in _PICKLES for path in folder.glob(kind))
    if pickles and not any(folder.glob("*.safetensors")):
        raise WeightFilesError(
            f"The checkpoint {location} has its weights in {pickles[0]}, a pickle, which can run any program when it is "
            "read: get it as safetensors, or convert it on a machine that may be lost, with "
            "`AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)` of transformers."
        )
    if (folder / _INDEX).is_file():
        for file in _files_of(folder / _INDEX):
            if not file.endswith(".safetensors") or Path(file).name != file:
                raise WeightFilesError(
                    f"{folder / _INDEX} leads to {file[:100]!r}, which is no safetensors file of this folder: get the "
                    "checkpoint again, from somebody you trust."
                )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder that transformers loads. Raises WeightFilesError."""
    single = folder / "model.safetensors"
    if single.is_file() or not (folder / _INDEX).is_file():
        return [single] if single.is_file() else []
    return [folder / name for name in _files_of(folder / _INDEX)]


def _files_of(index: Path) -> list[str]:
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightFilesError(
            f"{index} is damaged ({type(error).__name__}): get the checkpoint again."
        ) from error
    return sorted({str(file) for file in files})
