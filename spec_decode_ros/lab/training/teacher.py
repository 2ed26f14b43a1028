"""The distillation teacher: a target that generates many answers at once, with the likeliest tokens at each position.

Each row of the batch is one answer; when it ends, the row takes the next prompt (continuous batching). A prompt goes through
the model one token a step, together with the other rows, so that every step is a pass of the same shape. Only for Llama
architectures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TeacherPrompt:
    """A prompt to answer.

    Attributes:
        index: identifies the request.
        prompt: token ids.
        temperature: 0 is greedy.
        length: longest answer, in tokens.
    """

    index: int
    prompt: tuple[int, ...]
    temperature: float
    length: int


@dataclass(frozen=True)
class TeacherExample:
    """A prompt with the teacher's answer, and the teacher's likeliest next tokens.

    Attributes:
        index: of the request.
        tokens: prompt and answer, (n,).
        start: length of the prompt.
        first: `top_tokens[i]` and `top_logprobs[i]` are predictions for `tokens[first + i + 1]`.
        top_tokens: token ids, likeliest first, (n - 1 - first, K).
        top_logprobs: their log probabilities, (n - 1 - first, K).
    """

    index: int
    tokens: torch.Tensor
    start: int
    first: int
    top_tokens: torch.Tensor
    top_logprobs: torch.Tensor


@dataclass
class _Row:
    """An answer in progress."""

    request: TeacherPrompt
    tokens: list[int]
    top_tokens: list[torch.Tensor] = field(default_factory=list)
    top_logprobs: list[torch.Tensor] = field(default_factory=list)


class Teacher:
    """Runs a Llama model on a batch of answers of different lengths.

    Args:
        model: the target; its weights are copied to `dtype`.
        preamble: token ids that every prompt begins with; they go through the model once.
        rows: answers in a batch.
        length: longest prompt and answer together.
        top: number of likeliest tokens to record.
        dtype: bfloat16 is three times as fast as float32 on a CPU with instructions for it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        preamble: Sequence[int],
        *,
        rows: int = 64,
        length: int = 256,
        top: int = 24,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        if model.config.model_type != "llama":
            raise SpecDecodeError(f"a teacher has to be a Llama model, not {model.config.model_type}")
        config: Any = model.config
        self.preamble, self.top, self.eos = tuple(preamble), top, int(config.eos_token_id)
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        self._size = config.head_dim
        self._eps = config.rms_norm_eps
        decoder = cast(Any, model.get_decoder())
        self._embedding = decoder.embed_tokens.weight.detach().to(dtype)
        self._exact_head = cast(torch.Tensor, model.get_output_embeddings().weight).detach().float()
        self._head = self._exact_head.to(dtype)
        self._norm = decoder.norm.weight.detach()
        self._layers = [_layer_weights(layer, dtype) for layer in decoder.layers]
        angles = torch.arange(length)[:, None] * decoder.rotary_emb.inv_freq[None].float()
        self._turn = torch.cat([angles, angles], dim=-1)
        shape = (len(self._layers), rows, self._groups, length, self._size)
        self._values = torch.zeros(shape, dtype=dtype)
        # Stored transposed: products of a few rows with such a matrix take half the time.
        self._keys = self._values.transpose(-1, -2).contiguous()
        self._columns = torch.arange(length)
        for column, token in enumerate(self.preamble):  # computed in row 0, then copied to every row
            ids, position = torch.tensor([token]), torch.tensor([column])
            self._step(ids, position, slice(0, 1))
        self._keys[:, 1:], self._values[:, 1:] = self._keys[:, :1], self._values[:, :1]

    def answer(self, requests: Iterator[TeacherPrompt]) -> Iterator[TeacherExample]:
        """Examples as they are finished. Prompts that leave no room for an answer are skipped."""
        rows: list[_Row | None] = [None] * self._values.shape[1]
        while True:
            for number, row in enumerate(rows):
                if row is None:
                    rows[number] = self._next(requests)
            busy = [number for number, row in enumerate(rows) if row is not None]
            if not busy:
                return
            active = [cast(_Row, rows[number]) for number in busy]
            ids = torch.tensor([row.tokens[self._column(row)] for row in active])
            positions = torch.tensor([self._column(row) for row in active])
            where = slice(None) if len(busy) == len(rows) else torch.tensor(busy)
            top_tokens, top_logprobs = self._step(ids, positions, where)
            for number, row, top, logprobs in zip(busy, active, top_tokens, top_logprobs, strict=True):
                example = self._advance(row, top, logprobs)
                if example is not None:
                    rows[number] = None
                    yield example

    def _column(self, row: _Row) -> int:
        """Index of the token of a row that goes through the model next."""
        return len(self.preamble) + len(row.top_tokens)

    def _next(self, requests: Iterator[TeacherPrompt]) -> _Row | None:
        """A row for the next prompt that fits, None if there is no more."""
        preamble = len(self.preamble)
        for request in requests:
            if request.prompt[:preamble] != self.preamble or len(request.prompt) <= preamble:
                raise SpecDecodeError("every prompt has to begin with the preamble and to go on after it")
            if len(request.prompt) + request.length <= self._values.shape[3]:
                return _Row(request, list(request.prompt))
        return None

    def _advance(
        self, row: _Row, top_tokens: torch.Tensor, top_logprobs: torch.Tensor
    ) -> TeacherExample | None:
        """Record a step of a row; returns the example if it was the last one."""
        row.top_tokens.append(top_tokens)
        row.top_logprobs.append(top_logprobs)
        start = len(row.request.prompt)
        if self._column(row) < len(row.tokens):
            return None  # still in the prompt
        if row.request.temperature:
            noise = -torch.empty(len(top_logprobs)).exponential_().log()
            token = int(top_tokens[(top_logprobs / row.request.temperature + noise).argmax()])
        else:
            token = int(top_tokens[0])
        row.tokens.append(token)
        if token != self.eos and len(row.tokens) < start + row.request.length:
            return None
        return TeacherExample(
            row.request.index,
            torch.tensor(row.tokens),
            start,
            len(self.preamble),
            torch.stack(row.top_tokens),
            torch.stack(row.top_logprobs),
        )

    @torch.inference_mode()
    def _step(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: slice | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One token for each of `rows`; the likeliest next tokens and their log probabilities, each (rows, top)."""
        count, last = len(ids), int(positions.max()) + 1
        turn = self._turn[positions][:, None]
        cosine, sine = turn.cos().to(self._head), turn.sin().to(self._head)
        unseen = (self._columns[:last] > positions[:, None])[:, None, None]
        mask = torch.zeros(unseen.shape).masked_fill_(unseen, float("-inf"))
        numbers = torch.arange(self._values.shape[1])[rows]
        hidden = self._embedding[ids]
        for index, weights in enumerate(self._layers):
            mixed = functional.linear(self._normed(hidden, weights["before"]), weights["qkv"])
            mixed = mixed.view(count, self._heads + 2 * self._groups, self._size)
            turning, values = mixed[:, : -self._groups], mixed[:, -self._groups :]
            turning = turning * cosine + _rotated(turning) * sine
            self._keys[index][numbers, :, :, positions] = turning[:, self._heads :]
            self._values[index][numbers, :, positions] = values
            asking = turning[:, : self._heads].reshape(count, self._groups, -1, self._size)
            scores = (asking @ self._keys[index][rows, :, :, :last]).float() * self._size**-0.5 + mask
            seen = scores.softmax(dim=-1).to(hidden) @ self._values[index][rows, :, :last]
            hidden = hidden + functional.linear(seen.reshape(count, -1), weights["out"])
            gate, up = functional.linear(self._normed(hidden, weights["between"]), weights["up"]).chunk(2, -1)
            hidden = hidden + functional.linear(functional.silu(gate) * up, weights["down"])
        exact = functional.rms_norm(hidden.float(), hidden.shape[-1:], self._norm, self._eps)
        logits = functional.linear(exact.to(self._head.dtype), self._head).float()
        top_tokens = logits.topk(self.top, dim=-1).indices
        # Computed again in float32: rounding to bfloat16 makes ties.
        scores = torch.einsum("rw,rkw->rk", exact, self._exact_head[top_tokens])
        scores, order = scores.sort(dim=-1, descending=True)
        return top_tokens.gather(1, order), scores - logits.logsumexp(dim=-1, keepdim=True)

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, hidden.shape[-1:], weight, self._eps)


def _layer_weights(layer: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    attention, feed = layer.self_attn, layer.mlp
    weights = {
        "before": layer.input_layernorm.weight,
        "qkv": torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
        "out": attention.o_proj.weight,
        "between": layer.post_attention_layernorm.weight,
        "up": torch.cat([feed.gate_proj.weight, feed.up_proj.weight]),
        "down": feed.down_proj.weight,
    }
    return {name: weight.detach().to(dtype) for name, weight in weights.items()}


def _rotated(states: torch.Tensor) -> torch.Tensor:
    low, high = states.chunk(2, dim=-1)
    return torch.cat([-high, low], dim=-1)
