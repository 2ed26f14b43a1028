"""Assembled checkpoints: a vision-language model without its language model, which another package ships.

The folder holds the vision tower and its projector (`vision.safetensors`), low-rank adapters of the language model's
linear layers (`adapters.safetensors`; Hu et al., LoRA, arXiv 2106.09685), the configuration of the whole, the image
processor, and `assembled.json`, which names the language model: `module:<package>/<file>.gguf`, or a folder beside
this one. Loading merges the adapters into the language model's weights in float32; the result is a SmolVLM like any
other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models import packaged

DESCRIPTION = "assembled.json"
VISION = "vision.safetensors"
ADAPTERS = "adapters.safetensors"
TEMPLATE = "chat_template.jinja"

VISION_PARTS = ("model.vision_model.", "model.connector.")
"""Beginnings of the names of the weights in `vision.safetensors`."""

LANGUAGE = "model.text_model."
"""Where the language model's own `model.` is in the whole."""

DOWN, UP = ".down", ".up"
"""What the names of an adapter's two matrices end with: (rank, inputs), and (outputs, rank) with the scale in it."""

_MARK = "language_mark"


class AssembledError(SpecDecodeError):
    """A checkpoint that cannot be put together."""


@dataclass(frozen=True)
class Assembly:
    """The contents of `assembled.json`.

    Attributes:
        language: `module:<package>/<file>.gguf`, or a folder relative to the checkpoint's.
        tokens: tokens of the language model's own vocabulary that stand for and around an image, by role
            (`image_token`, `fake_image_token`, `global_image_token`).
    """

    language: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.language, str) or not self.language.strip():
            raise AssembledError("language must name a packaged model or a folder")
        if not isinstance(self.tokens, Mapping) or not all(isinstance(v, str) for v in self.tokens.values()):
            raise AssembledError("tokens must map roles to tokens")

    def folder(self, beside: Path) -> Path:
        """The language model's checkpoint folder. Raises AssembledError or PackagedModelError."""
        if self.language.startswith(packaged.PREFIX):
            return packaged.converted(self.language)
        folder = beside / self.language
        if not (folder / "config.json").is_file():
            raise AssembledError(f"The language model {folder} of the checkpoint {beside} is not there.")
        return folder


def is_assembled(location: str | Path) -> bool:
    """Whether a checkpoint has to be put together."""
    return (Path(location) / DESCRIPTION).is_file()


def read(location: str | Path) -> Assembly:
    """The description of a checkpoint folder. Raises AssembledError."""
    path = Path(location) / DESCRIPTION
    try:
        return Assembly(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AssembledError) as error:
        raise AssembledError(f"{path} is damaged ({error}): fetch or train the checkpoint again.") from error


def tokenizer(location: str | Path) -> PreTrainedTokenizerBase:
    """The language model's tokenizer, which knows the image tokens by their roles."""
    assembly = read(location)
    return language_tokenizer(assembly, assembly.folder(Path(location)), template(location))


def language_tokenizer(assembly: Assembly, folder: Path, chat: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer in the language model's `folder`, with an assembly's tokens and a chat template."""
    found = AutoTokenizer.from_pretrained(folder, extra_special_tokens=dict(assembly.tokens))
    unknown = [token for token in assembly.tokens.values() if token not in found.get_vocab()]
    if unknown or found.get_vocab() != AutoTokenizer.from_pretrained(folder).get_vocab():
        raise AssembledError(f"The language model {folder} has no tokens {', '.join(unknown)}.")
    if chat is not None:
        found.chat_template = chat
    return found


def template(location: str | Path) -> str | None:
    """The checkpoint's own chat template, if it has one."""
    path = Path(location) / TEMPLATE
    return path.read_text(encoding="utf-8") if path.is_file() else None


def weights(location: str | Path) -> dict[str, torch.Tensor]:
    """Every weight of the whole model in float32, adapters merged; its head is tied to its embedding.

    Raises:
        AssembledError: a file is missing or damaged, or the language model is another than in training.
    """
    folder = Path(location)
    language_folder = read(folder).folder(folder)
    try:
        language = _language_weights(language_folder)
        vision = {name: weight.float() for name, weight in load_file(folder / VISION).items()}
        adapters = load_file(folder / ADAPTERS)
    except (OSError, SafetensorError) as error:
        raise AssembledError(
            f"The checkpoint {folder} cannot be read ({error}): fetch or train it again."
        ) from error
    trained_on, own = vision.pop(_MARK, torch.empty(0)), mark(language[f"{LANGUAGE}embed_tokens.weight"])
    if trained_on.shape != own.shape or not torch.allclose(trained_on, own, atol=0.05 * float(own.std())):
        raise AssembledError(
            f"The checkpoint {folder} was trained with another language model than {language_folder}: install the "
            "package's version that it names, or train it again."
        )
    merge(language, adapters, folder)
    return {**language, **vision}


def _language_weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        found |= load_file(file)
    if "model.embed_tokens.weight" not in found:
        raise AssembledError(f"The language model {folder} has no weights of a decoder.")
    return {
        name.replace("model.", LANGUAGE, 1): weight.float()
        for name, weight in found.items()
        if name.startswith("model.")
    }


def mark(embedding: torch.Tensor) -> torch.Tensor:
    """Identifies a language model: the mean row of its embedding, (width,) float32."""
    return embedding.detach().float().mean(0).cpu()


def merge(
    language: dict[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], folder: Path | str
) -> None:
    """Add each adapter's product to the weight that it belongs to, in place and in float32. Raises AssembledError."""
    for name, down in adapters.items():
        if not name.endswith(DOWN):
            continue
        layer = name.removesuffix(DOWN)
        up, key = adapters.get(layer + UP), f"{LANGUAGE}{layer}.weight"
        weight, product = language.get(key), None
        if up is not None and up.shape[1:] == down.shape[:1]:
            product = up.float() @ down.float()
        if weight is None or product is None or product.shape != weight.shape or not product.isfinite().all():
            raise AssembledError(f"The adapter {layer} of {folder} does not fit its language model.")
        language[key] = weight + product
    if len(adapters) % 2:
        raise AssembledError(f"The adapters of {folder} are not whole.")


def save(
    folder: Path,
    assembly: Assembly,
    model: Any,
    adapters: Mapping[str, torch.Tensor],
    embedding: torch.Tensor,
    chat: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint folder; the image processor is the caller's to add.

    Args:
        model: the whole model, of which configuration and vision are taken.
        adapters: by the names that :func:`merge` reads.
        embedding: the language model's, of which the checkpoint keeps a mark.
        chat: the chat template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vision = {
        name: weight.detach().to("cpu", dtype).contiguous()
        for name, weight in model.state_dict().items()
        if name.startswith(VISION_PARTS)
    }
    small = {name: weight.detach().to("cpu", dtype).contiguous() for name, weight in adapters.items()}
    model.config.save_pretrained(folder)
    (folder / TEMPLATE).write_text(chat, encoding="utf-8")
    (folder / DESCRIPTION).write_text(json.dumps(asdict(assembly), indent=2) + "\n", encoding="utf-8")
    for file, tensors in ((VISION, {**vision, _MARK: mark(embedding)}), (ADAPTERS, small)):
        part = folder / f"{file}.part"
        save_file(tensors, part, {"format": "pt"})
        part.chmod(0o644)
        part.replace(folder / file)
