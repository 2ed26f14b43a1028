"""The small decoder computes what transformers' modules compute; any other decoder goes through those modules."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
import transformers
from families import Family, pair_of
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.decoder import Segment
from spec_decode_ros.models.hf_model import decoder_for
from spec_decode_ros.models.onednn import has_bfloat16
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.transformers_decoder import TransformersDecoder
from spec_decode_ros.models.vision_encoder import quicken_vision

TEXT = tiny_checkpoints._text_config(50, 64, 3)


def _passes(decoder: object, seed: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Hidden states of passes of random width with a roll-back before each."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    cache, length, out = decoder.new_cache(), 0, []
    with torch.inference_mode():
        for step in range(12):
            keep = 0 if step == 6 else max(length - rng.randrange(4), 0)
            if keep:
                decoder.roll_back(cache, length, keep)
            else:
                cache = decoder.new_cache()
            count = rng.choice((1, 1, 2, 9, 40))
            embeddings = torch.randn((1, count, 64), generator=generator).to(dtype)
            positions = torch.arange(keep, keep + count).unsqueeze(0)
            out.append(decoder.run(embeddings, positions, [Segment(cache, keep, count)]))
            length = keep + count
    return out


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_small_decoder_equals_the_modules(bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**TEXT)).eval()
    tiny_checkpoints.scramble(model, seed)
    if bias:  # Qwen2's layers have one for queries, keys and values only
        for layer in model.model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                part.bias = torch.nn.Parameter(torch.randn(part.out_features))
    untouched = copy.deepcopy(model)
    small = decoder_for(model.model)
    assert isinstance(small, CpuDecoder)
    expected = _passes(TransformersDecoder(untouched.model), seed)
    packed = PackedDecoder.of(model.model)
    assert packed is not None
    for decoder in (small, TransformersDecoder(model.model), packed):
        made = _passes(decoder, seed)
        for ours, theirs in zip(made, expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no instructions for bfloat16")
def test_the_small_decoder_in_bfloat16_rounds_and_no_more() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TEXT)).eval()
    exact = _passes(TransformersDecoder(model.model), 1)
    small = decoder_for(LlamaForCausalLM.to(model, torch.bfloat16).model)
    assert isinstance(small, CpuDecoder) and small.cache_shape.dtype == torch.bfloat16
    for ours, theirs in zip(_passes(small, 1, torch.bfloat16), exact, strict=True):
        assert torch.allclose(ours.float(), theirs, atol=0.15)


def test_what_the_small_decoder_does_not_know_goes_to_the_modules() -> None:
    for change in ({"hidden_act": "gelu"}, {"mlp_bias": True}, {"attention_bias": True}):
        model = LlamaForCausalLM(LlamaConfig(**(TEXT | change)))
        assert isinstance(decoder_for(model.model), PackedDecoder)
    half = LlamaForCausalLM(LlamaConfig(**TEXT)).to(torch.float16)
    assert isinstance(decoder_for(half.model), PackedDecoder)
    hooked = LlamaForCausalLM(LlamaConfig(**TEXT))
    hooked.model.layers[1].register_forward_hook(lambda *_: None)
    assert isinstance(decoder_for(hooked.model), PackedDecoder)


def _tiny(kind: str, **settings: object) -> torch.nn.Module:
    config = getattr(transformers, f"{kind}Config")(**(TEXT | settings))
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval().get_decoder()


@pytest.mark.parametrize(
    ("kind", "settings", "packs"),
    [
        ("Mistral", {"sliding_window": None}, True),
        ("Qwen3", {"head_dim": 32}, True),  # wider in attention than outside
        ("Mixtral", {}, True),
        ("Mistral", {"sliding_window": 6}, False),
        ("Gemma2", {"head_dim": 16}, False),  # soft caps
        ("GptOss", {"head_dim": 16}, False),  # attention sinks
        ("DeepseekV3", {}, False),  # keys and values of different widths
        ("Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, False),
    ],
)
def test_only_what_treats_sequences_apart_is_packed(kind: str, settings: dict, packs: bool) -> None:
    module = _tiny(kind, **settings)
    decoder = decoder_for(module)
    assert isinstance(decoder, PackedDecoder if packs else TransformersDecoder)
    assert (decoder.cache_shape is not None) is packs
    assert module.config._attn_implementation == _tiny(kind, **settings).config._attn_implementation
    if not packs:
        with pytest.raises(SpecDecodeError, match="one session at a time"):
            decoder.run(torch.zeros(1, 2, 64), torch.zeros(1, 2), [])


def test_a_sliding_window_rolls_back(tmp_path: Path) -> None:
    path = tiny_checkpoints.make_llama(tmp_path / "a")
    size = len(AutoTokenizer.from_pretrained(path))
    settings = {key: value for key, value in TEXT.items() if key != "vocab_size"}
    model = MistralForCausalLM(MistralConfig(vocab_size=size, sliding_window=6, **settings)).eval()
    tiny_checkpoints.scramble(model, 2)
    tiny_checkpoints._save(model, path, [1], 0)
    verifier = load_verifier(pair_of(path))
    assert isinstance(verifier.model.decoder, TransformersDecoder)
    session = verifier.prepare("go to the red chair")
    truth: list[int] = []
    for _ in range(14):
        truth += session.verify(truth, (), Sampling())
    session = verifier.prepare("go to the red chair")
    for start, draft in (
        (0, truth[:4]),
        (2, [7, 8, 9, 10]),
        (3, truth[3:9]),
        (9, truth[9:13]),
        (9, truth[9:13]),
    ):
        choices = session.verify(truth[:start], draft, Sampling())
        good = next((i for i, token in enumerate(draft) if choices[i] != token), len(draft))
        assert list(choices[: good + 1]) == truth[start : start + good + 1]
        assert good == (0 if draft[0] == 7 else len(draft))


def test_the_flat_patch_embedding_is_the_convolution(qwen: Family) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(qwen.path)
    patches = torch.randn((24, 3 * 2 * 14 * 14))
    with torch.no_grad():
        expected = model.model.visual.patch_embed(patches)
        quicken_vision(model)
        quicken_vision(model)
        assert torch.allclose(model.model.visual.patch_embed(patches), expected, atol=1e-5)
    assert type(model.model.visual.patch_embed).__name__ == "FlatPatchEmbedding"
