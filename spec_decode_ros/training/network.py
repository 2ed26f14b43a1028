"""The shapes of the shipped pair, and batched passes for training that use the very modules of transformers' Qwen2-VL.

Transformers' own forward treats one image at a time; here a whole batch goes through the vision tower at once, and
several questions about one frame share its tokens: a block mask lets each question see the frame and itself.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from spec_decode_ros.sim.render import FOV_X
from spec_decode_ros.sim.scene import COLORS, KINDS
from spec_decode_ros.training.frames import COMBINATIONS, GRID
from spec_decode_ros.training.processor import MERGE, PATCH, build_tokenizer

ROWS, COLUMNS = GRID
VISUAL_TOKENS = ROWS * COLUMNS
PREFIX = VISUAL_TOKENS + 2
"""Tokens of a prompt up to the end of the picture: start, picture, end."""

FIRST_TEXT_POSITION = 1 + max(GRID) + 1
"""Rotary position of the first token of the instruction, by Qwen2-VL's rule."""


def build_model(
    layers: int, width: int, vision_layers: int, vision_width: int, seed: int
) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL with random weights over the shipped vocabulary; heads are 32 wide."""
    tokenizer = build_tokenizer()
    heads = width // 32
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 8 * width // 3 // 32 * 32,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": vision_layers,
            "embed_dim": vision_width,
            "hidden_size": width,
            "num_heads": vision_width // 32,
            "mlp_ratio": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 1,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration._from_config(
        config, attn_implementation="sdpa", dtype=torch.float32
    )
    _initialise(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@torch.no_grad()
def _initialise(model: nn.Module) -> None:
    """Weights scaled by fan-in: transformers' fixed spread of 0.02 is made for wide networks and stalls narrow ones."""
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            continue
        if "embed_tokens" in name:
            weight.normal_(0.0, 0.05)
            continue
        closes_residual = name.endswith(
            ("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight")
        )
        weight.normal_(0.0, (0.4 if closes_residual else 1.0) / math.sqrt(weight[0].numel()))


_MEAN, _STD = (
    torch.tensor(v) for v in (Qwen2VLImageProcessorPil.image_mean, Qwen2VLImageProcessorPil.image_std)
)


def patches(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, 96, 192, 3) uint8 to patches (B, 128, 432), in the order and scale of the image processor."""
    x = (frames.float() / 255 - _MEAN.to(frames.device)) / _STD.to(frames.device)
    x = x.view(len(x), ROWS, MERGE, PATCH, COLUMNS, MERGE, PATCH, 3)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(len(x), ROWS * COLUMNS * MERGE**2, -1)


def see(model: Qwen2VLForConditionalGeneration, frames: torch.Tensor) -> torch.Tensor:
    """Visual tokens (B, 32, width) of frames (B, 96, 192, 3) uint8."""
    tower = model.model.visual
    batch, count = len(frames), ROWS * COLUMNS * MERGE**2
    x = tower.patch_embed(patches(frames).reshape(batch * count, -1)).view(batch, count, -1)
    row, column = _patch_positions(frames.device)
    cos, sin = tower.rotary_pos_emb(x[0], torch.stack([row, column], -1))
    for block in tower.blocks:
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(x)).view(batch, count, 3, attention.num_heads, -1).unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + attention.proj(mixed.transpose(1, 2).reshape(batch, count, -1))
        x = x + block.mlp(block.norm2(x))
    return tower.merger(x.reshape(batch * count, -1)).view(batch, VISUAL_TOKENS, -1)


def _patch_positions(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    row = (
        torch.arange(ROWS * MERGE, device=device).view(ROWS, 1, MERGE, 1).expand(ROWS, COLUMNS, MERGE, MERGE)
    )
    column = (
        torch.arange(COLUMNS * MERGE, device=device)
        .view(1, COLUMNS, 1, MERGE)
        .expand(ROWS, COLUMNS, MERGE, MERGE)
    )
    return row.reshape(-1), column.reshape(-1)


def picture_positions() -> torch.Tensor:
    """Rotary positions (3, 34) of start, picture and end, by Qwen2-VL's rule."""
    row = torch.arange(ROWS).view(-1, 1).expand(ROWS, COLUMNS).reshape(-1)
    column = torch.arange(COLUMNS).view(1, -1).expand(ROWS, COLUMNS).reshape(-1)
    picture = 1 + torch.stack([torch.zeros_like(row), row, column])
    end = FIRST_TEXT_POSITION - 1
    return torch.cat([torch.zeros(3, 1, dtype=torch.long), picture, torch.full((3, 1), end)], 1)


def think(
    model: Qwen2VLForConditionalGeneration,
    visual: torch.Tensor,
    tokens: torch.Tensor,
    question: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    """Hidden states (B, T, width) of the text tokens.

    Args:
        visual: (B, 32, width) from :func:`see`.
        tokens: (B, T) ids of all questions of a frame, one after the other.
        question: (B, T) which question each token belongs to, -1 for padding.
        position: (B, T) place of each token in its own question, from 0.
    """
    batch, _ = tokens.shape
    config = model.config
    embed = model.model.language_model.embed_tokens
    ends = torch.tensor([config.vision_start_token_id, config.vision_end_token_id], device=tokens.device)
    start, end = embed(ends)[:, None, None].expand(2, batch, 1, -1)
    embeds = torch.cat([start, visual, end, embed(tokens)], 1)
    own = torch.cat([question.new_full((batch, PREFIX), -2), question], 1)
    length = embeds.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    mask = causal & ((own[:, :, None] == own[:, None, :]) | (own[:, None, :] == -2))
    picture = picture_positions().to(tokens.device)[:, None].expand(3, batch, -1)
    places = torch.cat([picture, (position + FIRST_TEXT_POSITION)[None].expand(3, -1, -1)], 2)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask={"full_attention": mask[:, None]},
        position_ids=places,
        use_cache=False,
    ).last_hidden_state
    return hidden[:, PREFIX:]


def _cell_bearings() -> torch.Tensor:
    """Angle of the middle of each cell's column, radians, left positive, (32,)."""
    across = (2 * (torch.arange(COLUMNS) + 0.5) / COLUMNS - 1) * math.tan(FOV_X / 2)
    return -torch.atan(across).repeat(ROWS)


class CellHead(nn.Module):
    """Reads from each visual token what stands in its cell; only for training the vision tower.

    The place is told relative to the cell, since the tower's rotary positions carry no absolute one.
    """

    def __init__(self, width: int):
        super().__init__()
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.kind = nn.Linear(width, len(KINDS))
        self.place = nn.Linear(width, 2)

    def loss(self, visual: torch.Tensor, presence: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Mean loss for visual tokens (B, 32, width), presence bits (B, 32) and place (B, 32, 2) with NaN for none."""
        bits = (presence[..., None] >> torch.arange(len(COMBINATIONS), device=presence.device)) & 1
        count, first = bits.sum(-1), bits.argmax(-1)
        color = torch.where(count > 0, first // len(KINDS), len(COLORS))
        clear = count < 2
        one = count == 1
        wanted = place.float() - torch.stack([_cell_bearings(), torch.zeros(VISUAL_TOKENS)], -1).to(
            place.device
        )
        known = ~wanted[..., 0].isnan()
        return (
            F.cross_entropy(self.color(visual)[clear], color[clear])
            + F.cross_entropy(self.kind(visual)[one], first[one] % len(KINDS))
            + 2.0 * F.smooth_l1_loss(self.place(visual)[known], wanted[known], beta=0.05)
        )
