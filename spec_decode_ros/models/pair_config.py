"""A draft/target pair as its YAML file describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models import packaged
from spec_decode_ros.models.generation_settings import NEUTRAL
from spec_decode_ros.settings import check_settings, setting
from spec_decode_ros.shipped import read_yaml, shipped_names, yaml_path

DEFAULT_PAIR = "tiny"

EXITS_FILE = "exits.safetensors"
"""Early exits, beside a checkpoint's weights."""

_PACKAGE = "spec_decode_ros"
_PACKAGE_PREFIX = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class PairError(SpecDecodeError):
    """A pair file that cannot be used."""


@dataclass(frozen=True)
class ModelConfig:
    """One side of a pair.

    Attributes:
        location: `package:<path inside this package>`, a folder (relative to the pair file), a hub id `owner/name`, or a
            GGUF file, which is converted once: its path, or `module:<Python package>/<file>.gguf` inside another
            installed package.
        device: `auto` takes a GPU if there is one.
        revision: branch, tag or commit of a hub id.
        image_processor: settings of the checkpoint's image processor to change, such as its size.
        ignored_generation_settings: names of settings of the checkpoint's generation configuration that would change its
            words, such as `repetition_penalty`, and are to be left out; others are refused.
        adapters: low-rank adapters that are merged into the weights, a file (relative to the pair file, or
            `package:<path inside this package>`).
        exits: the target's early exits, a file likewise; by default `EXITS_FILE` beside the adapters, or else beside
            the checkpoint, if there is one.
    """

    location: str
    dtype: str = setting(
        "auto",
        "precision; auto is float32 on a CPU and the checkpoint's own elsewhere, and bfloat16 is float32, too, on a CPU "
        "without instructions for it",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device: str = "auto"
    quantization: str = setting(
        "none", "4bit and 8bit need the package bitsandbytes", choices=("none", "4bit", "8bit")
    )
    threads: int = setting(0, "CPU threads of the process; 0 leaves torch's own choice", 0, 1024)
    revision: str | None = None
    image_processor: Mapping[str, Any] = field(default_factory=dict)
    ignored_generation_settings: Sequence[str] = ()
    adapters: str | None = None
    exits: str | None = None
    tensor_parallel: int = setting(
        1,
        "GPUs of one machine over which the target's layers are divided, each with a process of its own",
        1,
        64,
    )

    def __post_init__(self) -> None:
        if not isinstance(self.location, str) or not self.location.strip():
            raise PairError("location must be a folder, package:<path> or a hub id such as owner/name.")
        check_settings(self)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise PairError(f"device must be auto, cpu, mps, cuda or cuda:<number>, not {self.device!r}.")
        if not isinstance(self.image_processor, Mapping):
            raise PairError("image_processor must be a mapping of the image processor's settings.")
        ignored = self.ignored_generation_settings
        if not isinstance(ignored, list | tuple) or not all(name in list(NEUTRAL) for name in ignored):
            raise PairError(
                f"ignored_generation_settings must be a list, of {', '.join(NEUTRAL)}, not {ignored!r}."
            )
        for name in ("adapters", "exits"):
            path = getattr(self, name)
            if path is not None and (not isinstance(path, str) or not path.strip()):
                raise PairError(f"{name} must be the path of a file, not {path!r}.")
        if self.tensor_parallel > 1 and self.quantization != "none":
            raise PairError("tensor_parallel and quantization do not go together: choose one of them.")
        if self.adapters and (self.tensor_parallel > 1 or self.quantization != "none"):
            raise PairError(
                "adapters go together with neither tensor_parallel nor quantization: leave those out."
            )


class Chat(NamedTuple):
    """How prompts are wrapped: `own`, `none` or a Jinja template, and what the template is given."""

    template: str = "own"
    settings: Mapping[str, Any] = MappingProxyType({})


OWN_CHAT = Chat()


@dataclass(frozen=True)
class PairConfig:
    """A draft and a target that share a vocabulary.

    Attributes:
        name: compared by the handshake between robot and cloud.
        draft, target: the two sides.
        chat_template: `own` for the checkpoint's, `none` for plain text, or a Jinja template for both sides.
        template_settings: what the template is given beside the message, such as `enable_thinking: false`.
        folder: of the pair file; relative locations start here.
    """

    name: str
    draft: ModelConfig
    target: ModelConfig
    description: str = setting("", "one line for people")
    prompt: str = setting(
        "trained",
        "trained for models trained on this project's data, instructed for off-the-shelf models, whose prompt "
        "explains the format of an action",
        choices=("trained", "instructed"),
    )
    goals: str = setting(
        "any",
        "which objects the pair can be sent to: any that can be said, or only those named by a colour and a kind",
        choices=("any", "named"),
    )
    chat_template: str = setting("own", "own, none or a Jinja template")
    template_settings: Mapping[str, Any] = field(default_factory=dict)
    grammar: str = setting(
        "auto",
        "what answers are constrained to: action, none, or a file (relative to the pair file) that holds EBNF or, named "
        ".json, a JSON schema; auto is action for an instructed pair that takes images, and else none",
    )
    max_tokens: int = setting(32, "answers end here at the latest", 1, 1_000_000)
    colocated: bool = setting(False, "the server holds the draft model too, for drafts of its own")
    lookup: int = setting(
        0,
        "how many of the last tokens have to have occurred before, in prompt or answer, for the drafter to copy what "
        "followed them then instead of asking its model; 0 never does",
        0,
        1_000_000,
    )
    folder: Path = Path(".")

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.+-]{1,64}", self.name):
            raise PairError(f"name must be 1 to 64 letters, digits or ._+-, not {self.name!r}.")
        check_settings(self)
        if self.chat_template not in ("own", "none") and "{" not in self.chat_template:
            raise PairError(
                f"chat_template must be own, none or a Jinja template, not {self.chat_template!r}."
            )
        if not isinstance(self.template_settings, Mapping):
            raise PairError("template_settings must be a mapping, such as {enable_thinking: false}.")
        if not self.grammar.strip():
            raise PairError("grammar must be action, none, auto or a file.")
        for side in ("draft", "target"):
            if not isinstance(getattr(self, side), ModelConfig):
                raise PairError(f"{side} must describe a model, with at least its location.")

    @property
    def chat(self) -> Chat:
        """How prompts are wrapped."""
        return Chat(self.chat_template, self.template_settings)


def pair_names() -> list[str]:
    """Names of the pairs that are shipped."""
    return shipped_names("pair")


def load_pair_config(name_or_path: str | Path) -> PairConfig:
    """Read a shipped pair by name or any pair by the path of its YAML file. Raises PairError."""
    try:
        path = yaml_path("pair", str(name_or_path))
        document = read_yaml(path, "The pair file")
    except SpecDecodeError as error:
        raise PairError(str(error)) from None
    try:
        return _pair_from(document, path)
    except SpecDecodeError as error:
        raise PairError(f"The pair file {path} cannot be used: {error}") from error


def _pair_from(document: object, path: Path) -> PairConfig:
    values: dict[str, Any] = {"name": path.stem, **_known(document, PairConfig, "a pair file")}
    for side in ("draft", "target"):
        if side not in values:
            raise PairError(f"{side} is missing.")
        try:
            values[side] = ModelConfig(**_known(values[side], ModelConfig, side))
        except SpecDecodeError as error:
            raise PairError(f"{side}: {error}") from error
    return PairConfig(**values, folder=path.resolve().parent)


def _known(document: object, kind: type, where: str) -> dict[str, Any]:
    """The document, whose keys must all be fields of `kind`."""
    allowed = {entry.name for entry in fields(kind)} - {"folder"}
    if not isinstance(document, dict):
        raise PairError(f"{where} must be a mapping.")
    unknown = sorted(str(key) for key in document if key not in allowed)
    if unknown:
        raise PairError(f"{', '.join(unknown)} is not a setting; there are {', '.join(sorted(allowed))}.")
    if kind is ModelConfig and "location" not in document:
        raise PairError("location is missing.")
    return document


def resolve_file(path: str, folder: Path) -> Path:
    """Where a file or folder is that a pair file in `folder` names; whether it is there is another question."""
    if path.startswith(_PACKAGE_PREFIX):
        return Path(str(files(_PACKAGE))) / path.removeprefix(_PACKAGE_PREFIX)
    return folder / Path(path).expanduser()


def resolve_location(model: ModelConfig, folder: Path) -> str:
    """A folder that is there, or a hub id; the model's adapters are there, too.

    Raises PairError, or PackagedModelError.
    """
    if model.adapters is not None and not (file := resolve_file(model.adapters, folder)).is_file():
        raise PairError(
            f"The adapters {file} do not exist: correct the path, or for a shipped pair make them with `spec-decode "
            f"train --pair {file.parent.name}`."
        )
    if model.location.startswith(packaged.PREFIX):
        return str(packaged.converted(packaged.packaged_file(model.location)))
    local = resolve_file(model.location, folder)
    if model.location.startswith(_PACKAGE_PREFIX):
        if not (local / "config.json").is_file():
            raise PairError(
                f"The checkpoint {model.location} is not installed with this package: make it with `spec-decode train "
                f"--pair {local.parent.name}`, or for a text pair with `spec-decode train-draft`."
            )
        return str(local)
    if local.is_dir():
        return str(local)
    if local.is_file():
        if local.suffix == ".gguf":
            return str(packaged.converted(local))
        raise PairError(f"The checkpoint {local} is a file: give the folder that it is in, or a .gguf file.")
    if _HUB_ID.fullmatch(model.location):
        return model.location
    raise PairError(
        f"The checkpoint folder {local} does not exist: correct the location, or give a hub id owner/name."
    )


def exits_file(model: ModelConfig, folder: Path) -> Path | None:
    """Where the early exits of a model belong; None beside a hub id. Raises PairError."""
    if model.exits is not None:
        return resolve_file(model.exits, folder)
    if model.adapters is not None:
        return resolve_file(model.adapters, folder).with_name(EXITS_FILE)
    location = Path(resolve_location(model, folder))
    return location / EXITS_FILE if location.is_dir() else None
