"""Two real checkpoints of one vocabulary, served one after the other at one address."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spec_decode_ros.edge.runtime import ActionFailed, EdgeRuntime
from spec_decode_ros.models.fingerprint import target_fingerprint, target_hash
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.service import VerifierService
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.server import LOOPBACK

from .test_real_models import WAIT_S, tiny_checkpoints

PROMPT = "go to the red chair | last none"


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints().make_qwen2_vl_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def perturbed(pair_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pair, its target with other weights."""
    root = tmp_path_factory.mktemp("perturbed")
    shutil.copytree(pair_file.parent, root, dirs_exist_ok=True)
    tiny_checkpoints().make_qwen2_vl(root / "target", noise=0.5)
    return root / "pair.yaml"


@pytest.fixture(scope="module")
def drafter(pair_file: Path) -> Drafter:
    return load_drafter(pair_file, threads=1)


@contextlib.contextmanager
def serving(pair: Path, bind: str = LOOPBACK) -> Iterator[str]:
    service = VerifierService(ServiceConfig(pair=str(pair), bind=bind, threads=1))
    try:
        yield service.start()
    finally:
        service.stop()


def test_a_restart_with_other_weights_is_noticed_and_results_say_which(
    pair_file: Path, perturbed: Path, drafter: Drafter
) -> None:
    frame = tiny_checkpoints().jpeg(0)
    known = target_fingerprint(load_pair_config(pair_file), "float32")
    with contextlib.ExitStack() as first:
        endpoint = first.enter_context(serving(pair_file))
        with Client(endpoint, "random", drafter.vocabulary) as client:
            runtime = EdgeRuntime(drafter, client, "cloud", deadline_s=WAIT_S, fallback=False)
            client.wait_ready(WAIT_S)
            with runtime:
                assert runtime.act(PROMPT, [frame]).stats["target_fingerprint"] == known
                first.close()
                with serving(perturbed, endpoint), pytest.raises(ActionFailed, match=known):
                    runtime.act(PROMPT, [frame])
    with (
        serving(perturbed) as endpoint,
        Client(endpoint, "random", drafter.vocabulary, target_fingerprint="any") as client,
        EdgeRuntime(drafter, client, "cloud", deadline_s=WAIT_S) as runtime,
    ):
        client.wait_ready(WAIT_S)
        assert runtime.act(PROMPT, [frame]).stats["target_fingerprint"] not in (None, known)


def test_the_draft_alone_has_no_target(drafter: Drafter) -> None:
    with EdgeRuntime(drafter, None, "edge") as runtime:
        assert runtime.act(PROMPT, [tiny_checkpoints().jpeg(0)]).stats["target_fingerprint"] is None


def test_what_changes_the_words_changes_the_fingerprint(pair_file: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pair_file.parent, tmp_path / "copy")
    pair = load_pair_config(root / "pair.yaml")
    before = target_hash(pair)
    assert before == target_hash(load_pair_config(pair_file))  # the place does not matter
    (root / "target" / "README.md").write_text("words")
    (root / "target" / "exits.safetensors").write_bytes(b"not of the target's own words")
    assert target_hash(pair) == before

    smaller = replace(pair, target=replace(pair.target, image_processor={"size": {"longest_edge": 5000}}))
    adapted = replace(pair, target=replace(pair.target, adapters="adapters.safetensors"))
    (root / "adapters.safetensors").write_bytes(b"some")
    changes = {
        before,
        target_hash(smaller),
        target_hash(adapted),
        target_hash(replace(pair, chat_template="none")),
    }
    (root / "adapters.safetensors").write_bytes(b"more")
    changes.add(target_hash(adapted))
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        file = root / "target" / name
        file.write_text(file.read_text().replace("0", "1").replace("user", "human") + " ")
        changes.add(target_hash(pair))
    assert len(changes) >= 8
    half = replace(pair, target=replace(pair.target, quantization="4bit"))
    assert target_fingerprint(half, "bfloat16").endswith("-bfloat16-4bit")


def test_large_files_are_hashed_once_and_again_when_they_have_changed(
    pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(pair_file.parent, tmp_path / "copy")
    weights = root / "target" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + bytes(5_000_000))
    pair = load_pair_config(root / "pair.yaml")
    first = target_hash(pair)
    (kept,) = (tmp_path / "cache" / "spec_decode_ros" / "hashes").iterdir()
    kept.write_text("f" * 64)  # read again, not computed
    assert target_hash(pair) != first
    kept.write_text("torn")
    assert target_hash(pair) == first

    status = weights.stat()
    other = bytearray(weights.read_bytes())
    other[-1] = 1
    weights.write_bytes(other)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` leaves it
    assert target_hash(pair) != first


def test_a_cache_that_cannot_be_written_to_costs_time_only(
    pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(pair_file.parent, tmp_path / "copy")
    weights = root / "target" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + bytes(5_000_000))
    pair = load_pair_config(root / "pair.yaml")
    assert target_hash(pair) == target_hash(pair)
