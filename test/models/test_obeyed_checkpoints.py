"""What lies in a checkpoint folder or a pair file and would change the model's words is obeyed or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from test_packaged import write_gguf
from tiny_checkpoints import jpeg

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.generation_settings import NEUTRAL
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair_config import (
    Chat,
    ModelConfig,
    PairError,
    load_pair_config,
    pair_names,
    resolve_location,
)
from spec_decode_ros.models.prompts import prepare


@pytest.fixture
def checkpoint(checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints("qwen2_vl"), tmp_path / "checkpoint"))


@pytest.fixture
def llama(checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints("llama"), tmp_path / "checkpoint"))


def load(folder: Path, template: str = "own", **settings: object) -> object:
    side = ModelConfig(str(folder), dtype="float32", device="cpu", **settings)  # type: ignore[arg-type]
    return load_model(side, folder, Chat(template))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **values}))


def one_sentence(error: pytest.ExceptionInfo[SpecDecodeError]) -> str:
    sentence = str(error.value)
    assert "\n" not in sentence and "Traceback" not in sentence and len(sentence) < 600
    return sentence


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors"]
)
def test_adapters_that_lie_beside_the_weights_are_refused(llama: Path, name: str) -> None:
    (llama / name).write_text("{}")
    with pytest.raises(SpecDecodeError, match=rf"{name}.*merge_and_unload") as error:
        load(llama)
    one_sentence(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 1.05),
        ("no_repeat_ngram_size", 3),
        ("bad_words_ids", [[5]]),
        ("suppress_tokens", [5, 6]),
        ("begin_suppress_tokens", [5]),
        ("forced_bos_token_id", 5),
        ("forced_eos_token_id", 5),
        ("sequence_bias", [[[5], 2.0]]),
        ("min_new_tokens", 4),
        ("num_beams", 4),
        ("guidance_scale", 2.0),
        ("stop_strings", ["|"]),
    ],
)
def test_generation_settings_that_change_the_choice_are_refused_or_ignored_on_request(
    llama: Path, name: str, value: object
) -> None:
    change(llama / "generation_config.json", **{name: value})
    with pytest.raises(
        SpecDecodeError, match=rf"asks for {name}.*ignored_generation_settings: \[{name}\]"
    ) as error:
        load(llama)
    one_sentence(error)
    load(llama, ignored_generation_settings=[name])


def test_generation_settings_of_an_old_checkpoint_stand_in_its_configuration(llama: Path) -> None:
    change(llama / "config.json", repetition_penalty=1.3)
    load(llama)  # transformers reads them only where there is no file of their own
    (llama / "generation_config.json").unlink()
    with pytest.raises(SpecDecodeError, match=r"asks for repetition_penalty 1\.3 \(config\.json\)"):
        load(llama)


def test_the_usual_settings_of_published_checkpoints_are_fine(llama: Path) -> None:
    usual = {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001, "max_length": 4096}
    change(llama / "generation_config.json", **usual, repetition_penalty=1.0, min_p=0.05, use_cache=True)
    load(llama)
    change(llama / "generation_config.json", **{name: value for name, (value, *_) in NEUTRAL.items()})
    load(llama)


def test_a_damaged_generation_config_is_one_sentence(llama: Path) -> None:
    (llama / "generation_config.json").write_text("{")
    with pytest.raises(SpecDecodeError, match="generation_config") as error:
        load(llama)
    one_sentence(error)


def test_only_settings_that_change_words_can_be_ignored() -> None:
    for wrong in (["temperatur"], "repetition_penalty", [3]):
        with pytest.raises(PairError, match="ignored_generation_settings"):
            ModelConfig("a/b", ignored_generation_settings=wrong)  # type: ignore[arg-type]


def test_the_shipped_qwen2_vl_pair_goes_on_without_the_penalty_of_its_checkpoints() -> None:
    pair = load_pair_config("qwen2-vl")
    assert all("repetition_penalty" in side.ignored_generation_settings for side in (pair.draft, pair.target))
    for name in pair_names():
        load_pair_config(name)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"shotest_edge": 3}, "shotest_edge"),
        ({"do_resize": False}, "do_resize"),
        ({"return_tensors": "np"}, "return_tensors"),
        ({"size": {"shotest_edge": 3}}, "size"),
        ({"size": {"height": 56, "width": 56}}, "size"),
        ({"patch_size": "a"}, "image processor"),
    ],
)
def test_image_settings_that_are_unknown_or_not_obeyed_are_named(
    checkpoint: Path, settings: dict[str, object], named: str
) -> None:
    with pytest.raises(SpecDecodeError, match=named) as error:
        load(checkpoint, image_processor=settings)
    one_sentence(error)


def test_image_settings_that_are_known_are_obeyed(checkpoint: Path) -> None:
    size = {"shortest_edge": 784, "longest_edge": 28 * 28 * 2}
    small, usual = load(checkpoint, image_processor={"size": size}), load(checkpoint)
    assert len(prepare(small, "go", [jpeg()]).ids) < len(prepare(usual, "go", [jpeg()]).ids)  # type: ignore[arg-type]
    load(checkpoint, image_processor={"max_pixels": 28 * 28 * 2})


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in %}",
        "{{ messages[0]['content'] | nothing }}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence_when_it_is_loaded(
    checkpoint: Path, template: str
) -> None:
    with pytest.raises(SpecDecodeError, match="chat template") as error:
        load(checkpoint, template)
    one_sentence(error)
    (checkpoint / "chat_template.jinja").write_text(template)
    with pytest.raises(SpecDecodeError, match="chat template"):
        load(checkpoint)


@pytest.mark.parametrize("kind", ["qwen2_vl", "llama", "smolvlm", "llava"])
@pytest.mark.parametrize("names", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_missing_tokenizer_is_named(checkpoints, tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    folder = Path(shutil.copytree(checkpoints(kind), tmp_path / "checkpoint"))
    for name in names:
        (folder / name).unlink()
    with pytest.raises(SpecDecodeError, match=r"tokenizer.*tokenizer\.json") as error:
        load(folder)
    one_sentence(error)


def test_a_gguf_file_is_a_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_gguf(tmp_path / "small.gguf")
    document = {"draft": {"location": "small.gguf"}, "target": {"location": str(tmp_path / "small.gguf")}}
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(document))
    pair = load_pair_config(tmp_path / "pair.yaml")
    places = {resolve_location(side, pair.folder) for side in (pair.draft, pair.target)}
    assert len(places) == 1 and (Path(places.pop()) / "config.json").is_file()


def test_a_file_that_is_no_gguf_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\xff" * 60)
    with pytest.raises(SpecDecodeError, match=r"broken\.gguf cannot be converted") as error:
        resolve_location(ModelConfig("broken.gguf"), tmp_path)
    one_sentence(error)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(PairError, match="is a file"):
        resolve_location(ModelConfig("weights.safetensors"), tmp_path)
