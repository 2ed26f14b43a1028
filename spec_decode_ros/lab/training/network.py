"""The shapes of the shipped pair, and batched passes for training that use the very modules of transformers' Qwen2-VL.

Transformers' own forward treats one image at a time; here a whole batch goes through the vision tower at once, and
several questions about one frame share its tokens: a block mask lets each question see the frame and itself.
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
"""Tokens of a prompt up to the end of the picture: start, picture, end."""

ROPE_THETA = 10.0
"""Base of the decoder's rotary frequencies. Qwen2-VL gives an image's columns the lowest ones: with the usual 10000 and
heads 32 wide, eight columns would differ by 0.03 rad, and the decoder could not tell left from right."""

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
    initialise(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Weights scaled by fan-in: transformers' fixed spread of 0.02 is made for wide networks and stalls narrow ones."""
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            continue
        if "embed_tokens" in name:
            weight.normal_(0.0, 0.05)
            continue
        closes_residual = name.endswith(
            ("attn.proj.weight", "out_proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight")
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


def _cell_bearings(rows: int = ROWS) -> torch.Tensor:
    """Angle of the middle of each cell's column, radians, left positive, (cells,)."""
    across = (2 * (torch.arange(COLUMNS) + 0.5) / COLUMNS - 1) * math.tan(FOV_X / 2)
    return -torch.atan(across).repeat(rows)


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
        """Mean loss for visual tokens (B, cells, width), presence bits (B, cells), place (B, cells, 2) with NaN for none."""
        bits = (presence[..., None] >> torch.arange(len(COMBINATIONS), device=presence.device)) & 1
        count, first = bits.sum(-1), bits.argmax(-1)
        color = torch.where(count > 0, first // len(KINDS), len(COLORS))
        clear = count < 2
        one = count == 1
        bearings = _cell_bearings(place.shape[1] // COLUMNS)
        wanted = place.float() - torch.stack([bearings, torch.zeros_like(bearings)], -1).to(place.device)
        known = ~wanted[..., 0].isnan()
        return (
            F.cross_entropy(self.color(visual)[clear], color[clear])
            + F.cross_entropy(self.kind(visual)[one], first[one] % len(KINDS))
            + 2.0 * F.smooth_l1_loss(self.place(visual)[known], wanted[known], beta=0.05)
        )


class GoalHead(nn.Module):
    """Reads from the last token of a prompt where the object is that it speaks of; only for training.

    The answer says the same in rounded words, but a number has a slope, and with it the decoder learns to look.
    """

    def __init__(self, width: int):
        super().__init__()
        self.place = nn.Linear(width, 2)

    def loss(self, hidden: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Mean loss for hidden states (N, width) and bearing and log distance (N, 2), NaN where none is in view."""
        known = ~place[:, 0].isnan()
        return F.smooth_l1_loss(self.place(hidden)[known].float(), place[known], beta=0.05)


class CompassHead(nn.Module):
    """Reads from each visual token, inside the decoder, which cell it stands for; only for training.

    Rotary positions are relative, so a decoder has to work out where in the picture a token is before it can say
    where an object is.
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


class Pointer:
    """Watches one decoder layer and says how well two of its heads look at the object that a prompt speaks of.

    That heads find an object by its words is what the whole task hangs on, and what takes longest to come about by
    itself; told where to look, a few thousand frames are enough.
    """

    def __init__(
        self, model: Any, layer: int, first: int = 1, cells: int = VISUAL_TOKENS, prefix: int = PREFIX
    ):
        """Of ``prefix`` tokens before the questions, ``cells`` from ``first`` on are the picture."""
        self._attention = model.get_decoder().layers[layer].self_attn
        self._picture = slice(first, first + cells)
        self._prefix = prefix
        self._seen: dict[str, Any] = {}
        self._hook = self._attention.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._seen = kwargs

    def close(self) -> None:
        """Stop watching."""
        self._hook.remove()

    @property
    def visual(self) -> torch.Tensor:
        """What the layer gets of the visual tokens, (B, cells, width), in the latest pass."""
        return self._seen["hidden_states"][:, self._picture]

    def loss(self, begins: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Minus log of the attention that falls on the object, for the latest pass of :func:`think`.

        Args:
            begins: (B, T) where the last token of each prompt is.
            cells: (N, 1 + cells) for each such place in order, where to look: first the picture's start, for an object that
                is not in view, then the cells that show it. Rows without any do not count.
        """
        attention, seen = self._attention, self._seen
        hidden = seen["hidden_states"]
        batch, length, _ = hidden.shape
        q = attention.q_proj(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        k = attention.k_proj(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        q, k = apply_rotary_pos_emb(q, k, *seen["position_embeddings"])
        group = q.shape[1] // k.shape[1]
        row, place = begins.nonzero(as_tuple=True)
        known = cells.any(-1)
        row, place, cells = row[known], place[known] + self._prefix, cells[known]
        scores = torch.einsum("nhd,nhld->nhl", q[row, ::group, place], k[row]).float() * attention.scaling
        allowed = seen["attention_mask"][row, 0, place]
        spread = scores.masked_fill(~allowed[:, None], float("-inf")).log_softmax(-1)[
            ..., self._picture.start - 1 : self._picture.stop
        ]
        return -spread.masked_fill(~cells[:, None], float("-inf")).logsumexp(-1).mean()


def pointer(model: Qwen2VLForConditionalGeneration, layer: int) -> Pointer:
    """Watches a decoder layer of the tiny pair."""
    return Pointer(model, layer)
