"""The shipped pair's architecture (a small Qwen2-VL), its batched forward pass for training, and auxiliary heads.

Transformers' own forward pass runs the vision encoder on one image after the other. Here it runs on a whole batch, and
the questions about a frame share its visual tokens: a block mask lets each question attend to the frame and itself. The
modules and weights are transformers' own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb, apply_rotary_pos_emb_vision

from spec_decode_ros.lab.training.frames import COMBINATIONS, GRID
from spec_decode_ros.lab.training.processor import MERGE, PATCH, build_tokenizer
from spec_decode_ros.sim.render import FOV_X
from spec_decode_ros.sim.scene import COLORS, KINDS

ROWS, COLUMNS = GRID
VISUAL_TOKENS = ROWS * COLUMNS
PREFIX = VISUAL_TOKENS + 2
"""Tokens of a prompt up to the end of the image: vision start, visual tokens, vision end."""

ROPE_THETA = 10.0
"""Base of the decoder's rotary frequencies. Qwen2-VL encodes an image's columns with the lowest ones: with the usual base
of 10000 and heads of width 32, eight columns would differ by 0.03 rad, and the decoder could not tell left from right."""

FIRST_TEXT_POSITION = 1 + max(GRID) + 1
"""Rotary position of the first token of the instruction, by Qwen2-VL's rule."""


def build_model(
    layers: int, width: int, vision_layers: int, vision_width: int, seed: int
) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL with random weights and the shipped vocabulary; the width of an attention head is 32."""
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
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [4, 6, 6]},
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
    """Scale the weights by fan-in: transformers' fixed deviation of 0.02 suits wide networks and stalls narrow ones."""
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
    """Cut frames (B, 96, 192, 3) uint8 into patches (B, 128, 432), ordered and scaled as by the image processor."""
    x = (frames.float() / 255 - _MEAN.to(frames.device)) / _STD.to(frames.device)
    x = x.view(len(x), ROWS, MERGE, PATCH, COLUMNS, MERGE, PATCH, 3)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(len(x), ROWS * COLUMNS * MERGE**2, -1)


def encode_frames(model: Qwen2VLForConditionalGeneration, frames: torch.Tensor) -> torch.Tensor:
    """Visual tokens (B, 32, width) of frames (B, 96, 192, 3) uint8."""
    encoder = model.model.visual
    batch, count = len(frames), ROWS * COLUMNS * MERGE**2
    x = encoder.patch_embed(patches(frames).reshape(batch * count, -1)).view(batch, count, -1)
    row, column = _patch_positions(frames.device)
    cos, sin = encoder.rotary_pos_emb(x[0], torch.stack([row, column], -1))
    for block in encoder.blocks:
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(x)).view(batch, count, 3, attention.num_heads, -1).unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + attention.proj(mixed.transpose(1, 2).reshape(batch, count, -1))
        x = x + block.mlp(block.norm2(x))
    return encoder.merger(x.reshape(batch * count, -1)).view(batch, VISUAL_TOKENS, -1)


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


def image_positions() -> torch.Tensor:
    """Rotary positions (3, 34) of vision start, visual tokens and vision end, by Qwen2-VL's rule."""
    row = torch.arange(ROWS).view(-1, 1).expand(ROWS, COLUMNS).reshape(-1)
    column = torch.arange(COLUMNS).view(1, -1).expand(ROWS, COLUMNS).reshape(-1)
    image = 1 + torch.stack([torch.zeros_like(row), row, column])
    end = FIRST_TEXT_POSITION - 1
    return torch.cat([torch.zeros(3, 1, dtype=torch.long), image, torch.full((3, 1), end)], 1)


def text_hidden_states(
    model: Qwen2VLForConditionalGeneration,
    visual: torch.Tensor,
    tokens: torch.Tensor,
    question: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    """Last hidden states (B, T, width) of the text tokens.

    Args:
        visual: (B, 32, width) from :func:`encode_frames`.
        tokens: (B, T) token ids of all questions about a frame, one after the other.
        question: (B, T) the question that each token belongs to, -1 for padding.
        position: (B, T) index of each token in its own question.
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
    image = image_positions().to(tokens.device)[:, None].expand(3, batch, -1)
    positions = torch.cat([image, (position + FIRST_TEXT_POSITION)[None].expand(3, -1, -1)], 2)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask={"full_attention": mask[:, None]},
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    return hidden[:, PREFIX:]


def _cell_bearings() -> torch.Tensor:
    """Bearing of the centre of each cell's column, radians, left positive, (cells,)."""
    across = (2 * (torch.arange(COLUMNS) + 0.5) / COLUMNS - 1) * math.tan(FOV_X / 2)
    return -torch.atan(across).repeat(ROWS)


class CellHead(nn.Module):
    """Auxiliary head: predicts from each visual token what is visible in its cell.

    Bearings are relative to the cell, because the vision encoder's rotary positions hold no absolute position.
    """

    def __init__(self, width: int):
        super().__init__()
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.kind = nn.Linear(width, len(KINDS))
        self.place = nn.Linear(width, 2)

    def loss(self, visual: torch.Tensor, presence: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Mean loss for visual tokens (B, cells, width), presence bits (B, cells) and place (B, cells, 2), NaN for none."""
        bits = (presence[..., None] >> torch.arange(len(COMBINATIONS), device=presence.device)) & 1
        count, first = bits.sum(-1), bits.argmax(-1)
        color = torch.where(count > 0, first // len(KINDS), len(COLORS))
        clear = count < 2
        one = count == 1
        bearings = _cell_bearings()
        wanted = place.float() - torch.stack([bearings, torch.zeros_like(bearings)], -1).to(place.device)
        known = ~wanted[..., 0].isnan()
        return (
            F.cross_entropy(self.color(visual)[clear], color[clear])
            + F.cross_entropy(self.kind(visual)[one], first[one] % len(KINDS))
            + 2.0 * F.smooth_l1_loss(self.place(visual)[known], wanted[known], beta=0.05)
        )


class GoalHead(nn.Module):
    """Auxiliary head: predicts from a prompt's last token where the named object is.

    The answer holds the same in rounded words; a regression loss has a gradient that teaches the decoder to use the frame.
    """

    def __init__(self, width: int):
        super().__init__()
        self.place = nn.Linear(width, 2)

    def loss(self, hidden: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Mean loss for hidden states (N, width) and bearing and log distance (N, 2), NaN where none is in view."""
        known = ~place[:, 0].isnan()
        return F.smooth_l1_loss(self.place(hidden)[known].float(), place[known], beta=0.05)


class PositionHead(nn.Module):
    """Auxiliary head: predicts from each visual token, inside the decoder, the position of its cell.

    Rotary positions are relative: a decoder has to work out where in the image a token is before it can tell where an
    object is.
    """

    def __init__(self, width: int):
        super().__init__()
        self.cell = nn.Linear(width, 2)

    def loss(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mean loss for hidden states (B, 32, width) of the visual tokens."""
        rows = torch.arange(ROWS).repeat_interleave(COLUMNS) / (ROWS - 1) - 0.5
        wanted = torch.stack([_cell_bearings(), rows], -1).to(hidden.device)
        read = self.cell(hidden).float()
        return F.smooth_l1_loss(read, wanted.expand_as(read), beta=0.05)


class AttentionLoss:
    """Supervises two attention heads of one decoder layer: they should attend to the object that a prompt names.

    Finding an object by its name is the core of the task, and attention learns it slowly by itself. With supervision a few
    thousand frames are enough.
    """

    def __init__(self, model: Qwen2VLForConditionalGeneration, layer: int):
        self._attention: Any = model.model.language_model.layers[layer].self_attn
        self._inputs: dict[str, Any] = {}
        self._hook = self._attention.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs = kwargs

    def close(self) -> None:
        """Remove the hook from the layer."""
        self._hook.remove()

    @property
    def visual(self) -> torch.Tensor:
        """The layer's input at the visual tokens in the latest pass, (B, 32, width)."""
        return self._inputs["hidden_states"][:, 1 : 1 + VISUAL_TOKENS]

    def loss(self, begins: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Negative log of the attention on the object in the latest pass of :func:`text_hidden_states`.

        Args:
            begins: (B, T) which tokens are the last of a prompt.
            cells: (N, 33) for each of these in order, which tokens to attend to: the image's start for an object that is
                not in view, else the visual tokens that show it. Rows without any do not count.
        """
        attention, inputs = self._attention, self._inputs
        hidden = inputs["hidden_states"]
        batch, length, _ = hidden.shape
        q = attention.q_proj(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        k = attention.k_proj(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        q, k = apply_rotary_pos_emb(q, k, *inputs["position_embeddings"])
        group = q.shape[1] // k.shape[1]
        row, place = begins.nonzero(as_tuple=True)
        known = cells.any(-1)
        row, place, cells = row[known], place[known] + PREFIX, cells[known]
        scores = torch.einsum("nhd,nhld->nhl", q[row, ::group, place], k[row]).float() * attention.scaling
        allowed = inputs["attention_mask"][row, 0, place]
        log_attention = scores.masked_fill(~allowed[:, None], float("-inf")).log_softmax(-1)
        log_attention = log_attention[..., : 1 + VISUAL_TOKENS]
        return -log_attention.masked_fill(~cells[:, None], float("-inf")).logsumexp(-1).mean()
