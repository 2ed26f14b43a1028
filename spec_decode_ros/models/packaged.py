"""Models in one GGUF file, by its path or inside an installed Python package.

transformers takes half a minute to read such a file, so it is read once and kept, dequantised to float32, as an ordinary
checkpoint in the user's cache folder: `$XDG_CACHE_HOME/spec_decode_ros`, or `~/.cache/spec_decode_ros`. The package is
only looked up, never imported: it may bring a runtime of its own that is not needed here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence

PREFIX = "module:"
"""Of a pair's location: `module:<package>/<file>.gguf`."""

_log = logging.getLogger(__name__)

_READERS = ("gguf", "accelerate")
"""Modules without which transformers reads no GGUF file."""

_FORMAT = 1  # raise it when a converted checkpoint of an older version must not be used any more


class PackagedModelError(SpecDecodeError):
    """A model inside a package that is not there or cannot be converted."""


def packaged_file(location: str) -> Path:
    """The file that `module:<package>/<file>` names. Raises PackagedModelError if it is not installed."""
    package, _, name = location.removeprefix(PREFIX).partition("/")
    inside = PurePosixPath(name)
    if not package.isidentifier() or inside.suffix != ".gguf" or inside.is_absolute() or ".." in inside.parts:
        raise PackagedModelError(f"{location} is no location: write module:<package>/<file>.gguf.")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / name
        if file.is_file():
            return file
    if spec is not None:
        raise PackagedModelError(f"The package {package} has no file {name}: install another version of it.")
    raise _missing(package)


def _missing(package: str) -> PackagedModelError:
    sentence = missing_module_sentence(package) or f"this needs the package {package}, which is not installed"
    return PackagedModelError(sentence[0].upper() + sentence[1:])


def cache_folder() -> Path:
    """Where converted checkpoints are kept; may not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "spec_decode_ros"


def converted(file: Path) -> Path:
    """The folder of the checkpoint that was, or now is, made of a GGUF file.

    The first call takes half a minute and as much disk as the weights have in float32.

    Raises:
        PackagedModelError: gguf is missing, the file is damaged, or the cache folder cannot be written to.
    """
    folder = cache_folder() / f"{file.stem}-{_fingerprint(file)}"
    if folder.is_dir():
        return folder
    for needed in _READERS:
        if importlib.util.find_spec(needed) is None:
            raise _missing(needed)
    _log.info("converting %s once, into %s", file, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise PackagedModelError(
            f"The cache folder {folder.parent} cannot be written to ({error.strerror}): set XDG_CACHE_HOME to one that "
            "can."
        ) from error
    try:
        _convert(file, part)
        # Another process may have done the same meanwhile.
        with contextlib.suppress(OSError):
            part.rename(folder)
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:  # as gguf and transformers raise on a bad file
        raise PackagedModelError(
            f"{file} cannot be converted ({' '.join(str(error).split())}): get the file again, or reinstall its package."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not folder.is_dir():
        raise PackagedModelError(
            f"The converted model cannot be put at {folder}: is there a file of that name?"
        )
    return folder


def _fingerprint(file: Path) -> str:
    """A hash of the file's size and beginning, where a GGUF file describes itself; it differs between versions."""
    digest = hashlib.sha256(f"{_FORMAT} {file.stat().st_size} ".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:12]


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source, name = str(file.parent), file.name
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be switched off
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    # It is not quantised any more, but transformers refuses to save a model whose configuration is.
    del model.config.quantization_config
    plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
