"""Loading of checkpoints of any architecture, from a folder or the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed import DistributedConfig
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging as transformers_logging

import spec_decode_ros.models.reduced_vocabulary  # noqa: F401 (makes the architecture known to transformers)
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.adapters import merge_adapters
from spec_decode_ros.models.checkpoint_checks import (
    CheckpointError,
    check_files,
    check_image_settings,
    check_tokenizer,
    missing_tokenizer,
)
from spec_decode_ros.models.exits import load_exits
from spec_decode_ros.models.grammar import Grammar, grammar_of
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.image_inputs import ImageFamily, image_family
from spec_decode_ros.models.onednn import has_bfloat16
from spec_decode_ros.models.pair_config import (
    OWN_CHAT,
    Chat,
    ModelConfig,
    PairConfig,
    exits_file,
    resolve_file,
    resolve_location,
)
from spec_decode_ros.models.structured_outputs import CompiledGrammar
from spec_decode_ros.models.text import CheckpointText, check_template
from spec_decode_ros.models.verifier import HfVerifier
from spec_decode_ros.models.vision_encoder import quicken_vision
from spec_decode_ros.models.weight_files import NEVER_CODE, check_weight_files


def load_tokenizer(side: ModelConfig, location: str) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises CheckpointError."""
    try:
        tokenizer: PreTrainedTokenizerBase = _pretrained(AutoTokenizer, side, location)
    except CheckpointError as error:
        if "instantiate the backend tokenizer" in str(error.__cause__):
            raise CheckpointError(missing_tokenizer(location)) from error
        raise
    check_tokenizer(tokenizer, location)
    return tokenizer


def load_side(pair: PairConfig, side: ModelConfig) -> HfModel:
    """Load one side of a pair, with the pair's grammar. Raises as `load_model` does, and GrammarError."""
    return load_model(side, pair.folder, pair.chat, partial(grammar_of, pair))


def _free(takes_images: bool) -> None:
    """No grammar."""


def load_model(
    side: ModelConfig,
    folder: Path,
    chat: Chat = OWN_CHAT,
    grammar_for: Callable[[bool], Grammar | None] = _free,
) -> HfModel:
    """Load one side of a pair.

    Args:
        side: how to load it.
        folder: of the pair file.
        chat: how prompts are wrapped.
        grammar_for: what its answers follow, given whether it takes images; by default they are free.

    Raises:
        CheckpointError: it is damaged, or needs something that is missing.
        SpecDecodeError: it is not there, or its architecture is not supported, or its adapters do not fit.
    """
    location = resolve_location(side, folder)
    transformers_logging.disable_progress_bar()
    if side.threads:
        torch.set_num_threads(side.threads)
    device = _device(side.device)
    adapters = None if side.adapters is None else resolve_file(side.adapters, folder)
    check_files(side, location, adapters)
    config: PreTrainedConfig = _pretrained(AutoConfig, side, location)
    tokenizer = load_tokenizer(side, location)
    image_token_id = getattr(config, "image_token_id", None)
    image_token, images = None, None
    if image_token_id is not None:
        image_token = str(tokenizer.convert_ids_to_tokens(image_token_id))
        images = _images(side, location, config, tokenizer, image_token)
    template = _template(side, location, tokenizer, chat.template)
    check_template(tokenizer, template, image_token, chat.settings)
    grammar = grammar_for(images is not None)  # what is wrong with it is said before seconds of loading
    model = _load_weights(side, location, config, device, adapters)
    text = CheckpointText(tokenizer, _eos_ids(model, tokenizer), template, image_token, chat.settings)
    return HfModel(model, text, images, CompiledGrammar(grammar, text) if grammar else None)


def _images(
    side: ModelConfig,
    location: str,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    image_token: str,
) -> ImageFamily:
    settings = {**side.image_processor, "backend": "pil"}
    processor = _pretrained(AutoImageProcessor, side, location, **settings)
    check_image_settings(side, location, processor, config.model_type)
    try:
        return image_family(config, processor, tokenizer, image_token)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, SpecDecodeError) and not side.image_processor:
            raise
        raise CheckpointError(
            f"The image processor of {location} cannot be used ({_first_line(error)}): correct image_processor in the "
            "pair file."
        ) from error


def _pretrained(kind: Any, side: ModelConfig, location: str, **settings: Any) -> Any:
    """`kind.from_pretrained` of a class of transformers."""
    return _read(kind.from_pretrained, location, **{**settings, "revision": side.revision, **NEVER_CODE})


def _read(function: Any, location: str, **settings: Any) -> Any:
    try:
        return function(location, **settings)
    except ImportError as error:
        raise CheckpointError(f"{location} cannot be loaded: {_first_line(error)}") from error
    except (
        *(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError),
        SafetensorError,
    ) as error:
        if "custom code" in str(error):
            raise CheckpointError(
                f"The checkpoint {location} brings program code of its own, which is never run here: choose one of an "
                "architecture that transformers knows by itself."
            ) from error
        raise CheckpointError(
            f"The checkpoint {location} cannot be loaded ({_first_line(error)}): check the location, and that it is "
            "whole or the network reaches the hub."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError("There is no usable CUDA GPU here: set the pair's device to cpu or auto.")
    return torch.device(name)


def _load_weights(
    side: ModelConfig, location: str, config: PreTrainedConfig, device: torch.device, adapters: Path | None
) -> PreTrainedModel:
    vision = type(config) in AutoModelForImageTextToText._model_mapping
    if not vision and type(config) not in AutoModelForCausalLM._model_mapping:
        raise CheckpointError(
            f"{location} is a {config.model_type} model, which writes no text: choose a language or vision-language "
            "model."
        )
    dtype: Any = side.dtype
    if device.type == "cpu" and (dtype == "auto" or (dtype == "bfloat16" and not has_bfloat16())):
        dtype = "float32"
    if dtype != "auto":
        dtype = getattr(torch, dtype)
    settings: dict[str, Any] = {
        # Adapters are merged before anything is rounded.
        "dtype": torch.float32 if adapters and dtype != "auto" else dtype,
        "revision": side.revision,
        "attn_implementation": "sdpa",
        "use_safetensors": True,  # never unpickle what was downloaded
        "output_loading_info": True,
        **NEVER_CODE,
    }
    check_weight_files(location)
    if side.quantization != "none":
        settings |= _quantization(side, device)
    if side.tensor_parallel > 1:
        # The processes have joined already (`ranks`), and each reads its part.
        settings["distributed_config"] = DistributedConfig(tp_plan="auto", tp_size=side.tensor_parallel)
    kind: Any = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model, report = _read(kind.from_pretrained, location, config=config, **settings)
    if absent := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"The checkpoint {location} lacks {len(absent)} weights, such as {absent[0]}: download or train it again."
        )
    if adapters:
        merge_adapters(adapters, model)
        if dtype != "auto":
            for weight in model.parameters():  # buffers stay as they are: rotations need float32
                weight.data = weight.data.to(dtype)
    if side.quantization == "none" and side.tensor_parallel == 1:
        model = model.to(device)
    quicken_vision(model)
    return model.eval()


def check_divisible(side: ModelConfig, location: str) -> None:
    """Raise CheckpointError unless the layers can be divided into `tensor_parallel` parts; reads no weights."""
    config: PreTrainedConfig = _pretrained(AutoConfig, side, location)
    text = config.get_text_config()
    if not getattr(text, "base_model_tp_plan", None):
        raise CheckpointError(
            f"transformers has no plan for dividing a {text.model_type} model: set tensor_parallel to 1."
        )
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if heads % side.tensor_parallel:
        raise CheckpointError(
            f"{location} has {heads} key-value heads, which {side.tensor_parallel} GPUs cannot share evenly: set "
            "tensor_parallel to a divisor of that."
        )


def _quantization(side: ModelConfig, device: torch.device) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise CheckpointError(
            f"Quantisation to {side.quantization} needs bitsandbytes: run `pip install bitsandbytes accelerate`, or set "
            "quantization to none."
        )
    if side.quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        compute = torch.bfloat16 if side.dtype == "auto" else getattr(torch, side.dtype)
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What transformers' own `generate` stops at."""
    text_config = model.config.get_text_config()
    for owner in (model.generation_config, model.config, text_config, tokenizer):
        value = getattr(owner, "eos_token_id", None)
        if value is not None:
            return list(value) if isinstance(value, (list, tuple)) else [int(value)]
    raise CheckpointError(
        "The checkpoint names no end token: set eos_token_id in its generation_config.json."
    )


def _template(
    side: ModelConfig, location: str, tokenizer: PreTrainedTokenizerBase, chat_template: str
) -> str | None:
    if chat_template == "none":
        return None
    if chat_template != "own":
        return chat_template
    # A vision-language checkpoint keeps its template with its processor, an older one with its tokenizer.
    settings = {"revision": side.revision} if side.revision else {}
    document, _ = _read(ProcessorMixin.get_processor_dict, location, **settings)
    own = document.get("chat_template") or tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()))
    return own


def load_whole_verifier(config: PairConfig) -> HfVerifier:
    """Load the target in this process alone, or the part of it that belongs here."""
    side = config.target
    model = load_side(config, side)
    file = exits_file(side, config.folder)
    if file is None or not (side.exits or file.is_file()):
        return HfVerifier(model)
    return HfVerifier(model, load_exits(file, model))
