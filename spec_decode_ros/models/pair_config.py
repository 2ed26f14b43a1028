"""A draft/target pair as its YAML file describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models import packaged
from spec_decode_ros.shipped import shipped_names, yaml_path

DEFAULT_PAIR = "tiny"

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
        location: `package:<path inside this package>`, a folder (relative to the pair file), a hub id `owner/name`, or
            `module:<Python package>/<file>.gguf`, a file inside another installed package, which is converted once.
        dtype: `auto` is float32 on a CPU and the checkpoint's own elsewhere; `bfloat16` is float32, too, on a CPU without
            instructions for it.
        device: `auto` takes a GPU if there is one.
        quantization: `none`, `4bit` or `8bit` (both need the bitsandbytes package).
        threads: CPU threads of the process that loads this side; 0 leaves torch's own choice.
        revision: branch, tag or commit of a hub id.
        image_processor: settings of the checkpoint's image processor to change, such as its size.
        exits: the target's early exits, a file (relative to the pair file); by default exits.safetensors beside the
            checkpoint, if there is one.
        tensor_parallel: over so many GPUs of one machine the target's layers are divided, each with a process of its own.
    """

    location: str
    dtype: str = "auto"
    device: str = "auto"
    quantization: str = "none"
    threads: int = 0
    revision: str | None = None
    image_processor: Mapping[str, Any] = field(default_factory=dict)
    exits: str | None = None
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.location, str) or not self.location.strip():
            raise PairError("location must be a folder, package:<path> or a hub id such as owner/name.")
        _one_of("dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        _one_of("quantization", self.quantization, ("none", "4bit", "8bit"))
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise PairError(f"device must be auto, cpu, mps, cuda or cuda:<number>, not {self.device!r}.")
        if (
            isinstance(self.threads, bool)
            or not isinstance(self.threads, int)
            or not 0 <= self.threads <= 1024
        ):
            raise PairError(f"threads must be from 0 (torch's own choice) to 1024, not {self.threads!r}.")
        if not isinstance(self.image_processor, Mapping):
            raise PairError("image_processor must be a mapping of the image processor's settings.")
        if self.exits is not None and (not isinstance(self.exits, str) or not self.exits.strip()):
            raise PairError(f"exits must be the path of a file, not {self.exits!r}.")
        if type(self.tensor_parallel) is not int or not 1 <= self.tensor_parallel <= 64:
            raise PairError(
                f"tensor_parallel must be a number of GPUs from 1 to 64, not {self.tensor_parallel!r}."
            )
        if self.tensor_parallel > 1 and self.quantization != "none":
            raise PairError("tensor_parallel and quantization do not go together: choose one of them.")


@dataclass(frozen=True)
class PairConfig:
    """A draft and a target that share a vocabulary.

    Attributes:
        name: what the handshake between robot and cloud compares.
        draft, target: the two sides.
        description: one line for people.
        prompt: `trained` for models trained on this project's data, `instructed` for off-the-shelf models, which are
            told the format of an action.
        chat_template: `own` for the checkpoint's, `none` for plain text, or a Jinja template for both sides.
        max_tokens: answers end here at the latest.
        colocated: the server holds the draft model too, to draft by itself when no robot's draft is there.
        lookup: how many of the last tokens have to have occurred before, in prompt or answer, for the drafter to copy what
            followed them then instead of asking its model; 0 never does.
        folder: where the pair file lies; relative locations start here.
    """

    name: str
    draft: ModelConfig
    target: ModelConfig
    description: str = ""
    prompt: str = "trained"
    chat_template: str = "own"
    max_tokens: int = 32
    colocated: bool = False
    lookup: int = 0
    folder: Path = Path(".")

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.+-]{1,64}", self.name):
            raise PairError(f"name must be 1 to 64 letters, digits or ._+-, not {self.name!r}.")
        _one_of("prompt", self.prompt, ("trained", "instructed"))
        if not isinstance(self.chat_template, str) or not self.chat_template:
            raise PairError("chat_template must be own, none or a Jinja template.")
        if self.chat_template not in ("own", "none") and "{" not in self.chat_template:
            raise PairError(
                f"chat_template must be own, none or a Jinja template, not {self.chat_template!r}."
            )
        if isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or self.max_tokens < 1:
            raise PairError(f"max_tokens must be a count of at least 1, not {self.max_tokens!r}.")
        if not isinstance(self.colocated, bool):
            raise PairError(f"colocated must be true or false, not {self.colocated!r}.")
        if isinstance(self.lookup, bool) or not isinstance(self.lookup, int) or self.lookup < 0:
            raise PairError(f"lookup must be a count of tokens, or 0 for none, not {self.lookup!r}.")
        for side in ("draft", "target"):
            if not isinstance(getattr(self, side), ModelConfig):
                raise PairError(f"{side} must describe a model, with at least its location.")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PairError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")


def pair_names() -> list[str]:
    """Names of the pairs that are shipped."""
    return shipped_names("pair")


def load_pair_config(name_or_path: str | Path) -> PairConfig:
    """Read a shipped pair by name or any pair by the path of its YAML file. Raises PairError."""
    try:
        path = yaml_path("pair", str(name_or_path))
    except SpecDecodeError as error:
        raise PairError(str(error)) from None
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"The pair file {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise PairError(f"The pair file {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    try:
        return _pair_from(document, path)
    except PairError as error:
        raise PairError(f"The pair file {path} cannot be used: {error}") from error


def _pair_from(document: object, path: Path) -> PairConfig:
    settings = _known(document, PairConfig, "a pair file") - {"folder"}
    assert isinstance(document, dict)
    values: dict[str, Any] = {key: document[key] for key in settings}
    values.setdefault("name", path.stem)
    for side in ("draft", "target"):
        if side not in values:
            raise PairError(f"{side} is missing.")
        try:
            values[side] = ModelConfig(
                **{key: values[side][key] for key in _known(values[side], ModelConfig, side)}
            )
        except PairError as error:
            raise PairError(f"{side}: {error}") from error
    return PairConfig(**values, folder=path.resolve().parent)


def _known(document: object, kind: type, where: str) -> set[str]:
    """The keys of `document`, all of which `kind` must know and whose required ones must be there."""
    allowed = {entry.name for entry in fields(kind)} - {"folder"}
    if not isinstance(document, dict):
        raise PairError(f"{where} must be a mapping.")
    unknown = sorted(str(key) for key in document if key not in allowed)
    if unknown:
        raise PairError(f"{', '.join(unknown)} is not a setting; there are {', '.join(sorted(allowed))}.")
    if kind is ModelConfig and "location" not in document:
        raise PairError("location is missing.")
    return set(document)


def resolve_location(model: ModelConfig, folder: Path) -> str:
    """A folder that is there, or a hub id. Raises PairError, or PackagedModelError."""
    if model.location.startswith(packaged.PREFIX):
        return str(packaged.converted(model.location))
    if model.location.startswith(_PACKAGE_PREFIX):
        inside = Path(str(files(_PACKAGE))) / model.location.removeprefix(_PACKAGE_PREFIX)
        if not (inside / "config.json").is_file():
            raise PairError(
                f"The checkpoint {model.location} is not installed with this package: make it with `spec-decode train "
                f"--pair {inside.parent.name}`, or for a text pair with `spec-decode train-draft`."
            )
        return str(inside)
    local = folder / Path(model.location).expanduser()
    if local.is_dir():
        return str(local)
    if _HUB_ID.fullmatch(model.location):
        return model.location
    raise PairError(
        f"The checkpoint folder {local} does not exist: correct the location, or give a hub id owner/name."
    )


def exits_file(model: ModelConfig, folder: Path) -> Path | None:
    """Where the early exits of a model belong; None beside a hub id. Raises PairError."""
    from spec_decode_ros.models.exits import FILE_NAME

    if model.exits is not None:
        return folder / Path(model.exits).expanduser()
    location = Path(resolve_location(model, folder))
    return location / FILE_NAME if location.is_dir() else None
