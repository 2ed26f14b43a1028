"""Random checkpoints of every supported family, made once a session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_checkpoints
from families import Family, pair_of

from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.transformers_decoder import TransformersDecoder

MAKERS: dict[str, Callable[..., Path]] = {
    "qwen2_vl": tiny_checkpoints.make_qwen2_vl,
    "smolvlm": tiny_checkpoints.make_smolvlm,
    "idefics3": tiny_checkpoints.make_idefics3,
    "llava": tiny_checkpoints.make_llava,
    "llama": tiny_checkpoints.make_llama,
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def checkpoint(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return checkpoint


def on_decoder(name: str, path: Path, kind: str) -> Family:
    """The checkpoint on the decoder that it gets on a CPU, on the one for a GPU, or on transformers' own."""
    verifier = load_verifier(pair_of(path))
    assert isinstance(verifier.model.decoder, CpuDecoder)
    module = verifier.model.model.get_decoder()
    if kind == "packed":
        packed = PackedDecoder.of(module)
        assert packed is not None
        verifier.model.decoder = packed
    elif kind:
        verifier.model.decoder = TransformersDecoder(module)
    return Family(name, path, verifier)


@pytest.fixture(
    scope="session",
    params=[
        *MAKERS,
        *(f"{name} {kind}" for name in ("qwen2_vl", "llama") for kind in ("packed", "as it is")),
    ],
)
def family(request: pytest.FixtureRequest, checkpoints: Callable[[str], Path]) -> Family:
    """Every family on the decoder that it gets on a CPU, and two on the other decoders."""
    name, _, kind = request.param.partition(" ")
    return on_decoder(name, checkpoints(name), kind)


@pytest.fixture(scope="session", params=[*MAKERS, *(f"{name} packed" for name in MAKERS), "llama as it is"])
def everyone(request: pytest.FixtureRequest, checkpoints: Callable[[str], Path]) -> Family:
    """Every family on every decoder that takes several sessions, and one that does not."""
    name, _, kind = request.param.partition(" ")
    return on_decoder(name, checkpoints(name), kind)


@pytest.fixture(scope="session")
def qwen(checkpoints: Callable[[str], Path]) -> Family:
    path = checkpoints("qwen2_vl")
    return Family("qwen2_vl", path, load_verifier(pair_of(path)))
