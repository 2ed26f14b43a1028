"""A target that writes many answers at once and notes what else it might have said at every token.

One row of a batch is one answer; a row that has ended begins the next prompt at once. A prompt goes through the model one
token a step, beside the others' answers, so that every step is one pass of the same shape. For Llama architectures.
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
        index: whatever tells it from the others.
        prompt: token ids.
        temperature: 0 is greedy.
        length: longest answer, in tokens.
    """

    index: int
    prompt: tuple[int, ...]
    temperature: float
    length: int


@dataclass(frozen=True)
class Lesson:
    """A prompt with its answer, and the likeliest tokens behind each of its tokens from `start` on.

    Attributes:
        index: the task's.
        tokens: prompt and answer, (n,).
        start: the prompt's length.
        first: `choices[i]` and `chances[i]` belong to what follows `tokens[first + i]`.
        choices: token ids, likeliest first, (n - 1 - first, K).
        chances: their log probabilities, (n - 1 - first, K).
    """

    index: int
    tokens: torch.Tensor
    start: int
    first: int
    choices: torch.Tensor
    chances: torch.Tensor


@dataclass
class _Row:
    task: TeacherPrompt
    tokens: list[int]
    choices: list[torch.Tensor] = field(default_factory=list)
    chances: list[torch.Tensor] = field(default_factory=list)


class Teacher:
    """Runs a Llama model over a batch of answers, each at its own length.

    Args:
        model: the target; its weights are copied in `dtype`.
        preamble: token ids with which every prompt begins; they go through the model once.
        rows: answers at a time.
        length: longest prompt and answer together.
        top: how many of the likeliest tokens are noted.
        dtype: bfloat16 is three times as fast as float32 on a CPU that has instructions for it.
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
        # Columns of a matrix: products of a few rows with it take half as long as with its transpose.
        self._keys = self._values.transpose(-1, -2).contiguous()
        self._columns = torch.arange(length)
        for column, token in enumerate(self.preamble):  # the same in every row
            ids, position = torch.tensor([token]), torch.tensor([column])
            self._step(ids, position, slice(0, 1))
        self._keys[:, 1:], self._values[:, 1:] = self._keys[:, :1], self._values[:, :1]

    def answer(self, tasks: Iterator[TeacherPrompt]) -> Iterator[Lesson]:
        """Lessons as they become ready. Prompts that leave no room for an answer are passed over."""
        rows: list[_Row | None] = [None] * self._values.shape[1]
        while True:
            for number, row in enumerate(rows):
                if row is None:
                    rows[number] = self._next(tasks)
            busy = [number for number, row in enumerate(rows) if row is not None]
            if not busy:
                return
            active = [cast(_Row, rows[number]) for number in busy]
            ids = torch.tensor([row.tokens[self._column(row)] for row in active])
            positions = torch.tensor([self._column(row) for row in active])
            where = slice(None) if len(busy) == len(rows) else torch.tensor(busy)
            choices, chances = self._step(ids, positions, where)
            for number, row, choice, chance in zip(busy, active, choices, chances, strict=True):
                lesson = self._advance(row, choice, chance)
                if lesson is not None:
                    rows[number] = None
                    yield lesson

    def _column(self, row: _Row) -> int:
        """Where in its answer a row is: the token that goes through the model next."""
        return len(self.preamble) + len(row.choices)

    def _next(self, tasks: Iterator[TeacherPrompt]) -> _Row | None:
        preamble = len(self.preamble)
        for task in tasks:
            if task.prompt[:preamble] != self.preamble or len(task.prompt) <= preamble:
                raise SpecDecodeError("every prompt has to begin with the preamble and to go on after it")
            if len(task.prompt) + task.length <= self._values.shape[3]:
                return _Row(task, list(task.prompt))
        return None

    def _advance(self, row: _Row, choices: torch.Tensor, chances: torch.Tensor) -> Lesson | None:
        """Note a step; the lesson, if it was the last one."""
        row.choices.append(choices)
        row.chances.append(chances)
        start = len(row.task.prompt)
        if self._column(row) < len(row.tokens):
            return None  # still in the prompt
        if row.task.temperature:
            noise = -torch.empty(len(chances)).exponential_().log()
            token = int(choices[(chances / row.task.temperature + noise).argmax()])
        else:
            token = int(choices[0])
        row.tokens.append(token)
        if token != self.eos and len(row.tokens) < start + row.task.length:
            return None
        return Lesson(
            row.task.index,
            torch.tensor(row.tokens),
            start,
            len(self.preamble),
            torch.stack(row.choices),
            torch.stack(row.chances),
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
        choices = logits.topk(self.top, dim=-1).indices
        # The winners once more, without the rounding that makes ties of bfloat16 logits.
        scores = torch.einsum("rw,rkw->rk", exact, self._exact_head[choices])
        scores, order = scores.sort(dim=-1, descending=True)
        return choices.gather(1, order), scores - logits.logsumexp(dim=-1, keepdim=True)

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
