"""Fingerprint of a target: tells apart checkpoints of one vocabulary whose words would differ. Without torch.

Everything that changes the words goes in: the files that are loaded, what the pair file changes about them, and the
precision. Hashing gigabytes takes seconds, so the hash of a large file is kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.packaged import cache_folder
from spec_decode_ros.models.pair_config import PairConfig, resolve_file, resolve_location
from spec_decode_ros.models.weight_files import weight_files

_DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What a checkpoint has beside its weights that changes its words."""

_IRRELEVANT = frozenset({"transformers_version", "_name_or_path", "name_or_path"})
"""Keys that say how a file was made."""

_LARGE = 4 * 1024 * 1024
_CHUNK = 1 << 20


def target_hash(pair: PairConfig) -> str:
    """The fingerprint of a pair's target without its precision.

    Raises SpecDecodeError if files are missing, or cannot be read.
    """
    side = pair.target
    folder = _folder(resolve_location(side, pair.folder), side.revision)
    digest = hashlib.sha256()
    files: Iterable[Path] = [folder / name for name in _DESCRIPTIONS if (folder / name).is_file()]
    files = [*weight_files(folder), *files]
    if side.adapters is not None:
        files.append(resolve_file(side.adapters, pair.folder))
    try:
        for file in files:
            digest.update(f"{file.name}\0{_file_hash(file)}\0".encode())
    except OSError as error:
        raise SpecDecodeError(
            f"{error.filename} cannot be read ({error.strerror}): get the checkpoint again."
        ) from error
    changed = [dict(side.image_processor), pair.chat_template, dict(pair.template_settings)]
    digest.update(json.dumps(changed, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def target_fingerprint(pair: PairConfig, dtype: str) -> str:
    """`<hash>-<precision>` of a pair's target that was loaded as `dtype`, such as `3f0c9a1be2d47705-float32`.

    Raises SpecDecodeError if files are missing, or cannot be read.
    """
    quantization = "" if pair.target.quantization == "none" else f"-{pair.target.quantization}"
    return f"{target_hash(pair)}-{dtype}{quantization}"


def _folder(location: str, revision: str | None) -> Path:
    """Where the files of a checkpoint are; those of a hub id in the hub's cache."""
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(location, "config.json", revision=revision)
    if not isinstance(found, str):
        raise SpecDecodeError(f"{location} was not fetched from the hub yet: load it once.")
    return Path(found).parent


def _file_hash(file: Path) -> str:
    """A hash of the file's content, kept for a large one as long as the file is the same."""
    status = file.stat()
    if status.st_size < _LARGE:
        return hashlib.sha256(_meaning(file)).hexdigest()
    # The inode and the time of its last change too: a copy may keep the size and the time of modification.
    same = (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    kept = cache_folder() / "hashes" / hashlib.sha256(repr(same).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        if len(known := kept.read_text(encoding="ascii")) == 64:
            return known
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    with contextlib.suppress(OSError):  # a cache that cannot be written to costs time only
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(digest.hexdigest(), encoding="ascii")
        part.replace(kept)
    return digest.hexdigest()


def _meaning(file: Path) -> bytes:
    """The content of a small file, of a JSON object without its layout and without what says how it was made."""
    content = file.read_bytes()
    if file.suffix == ".json":
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(content)
            if isinstance(document, dict):
                kept = {key: value for key, value in document.items() if key not in _IRRELEVANT}
                return json.dumps(kept, sort_keys=True).encode()
    return content
