"""One loaded checkpoint: token ids and image features in, logits and chosen tokens out.

Written against the parts that all decoders of transformers share (embedding, decoder, output head), so that no model
file is copied. Image features and positions are computed outside the decoder and handed to it. That makes a pass over a
few tokens cheap, keeps sessions that share a model apart, and allows any token in an answer, even an image placeholder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.sampling import choose
from spec_decode_ros.decoding.tree import Tree, ancestors
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.decoder import NO_HOOKS, Decoder, LayerHooks, Segment
from spec_decode_ros.models.image_inputs import ImageFamily
from spec_decode_ros.models.onednn import product_of
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.structured_outputs import Bitmask, CompiledGrammar, apply_bitmask
from spec_decode_ros.models.text import CheckpointText, TextSide
from spec_decode_ros.models.transformers_decoder import TransformersDecoder
from spec_decode_ros.models.vision_encoder import vision_encoder_of

NO_TREE = Tree()


@dataclass(frozen=True)
class Prompt:
    """A prompt that is ready for the decoder.

    Attributes:
        ids: token ids, image placeholders expanded.
        embeddings: (1, len(ids), width), image features in their places.
        positions: (1, len(ids)), or (3, 1, len(ids)) for models with three-dimensional positions.
        next_position: position of the first answer token.
    """

    ids: tuple[int, ...]
    embeddings: torch.Tensor
    positions: torch.Tensor
    next_position: int


@dataclass(frozen=True)
class SequenceInput:
    """What one sequence puts into a pass: `prefill` tokens of its prompt, then `ids` at their `positions`.

    Attributes:
        cache: the decoder's, which holds the first `past` tokens of the sequence.
        keep: for how many of the last tokens logits are wanted.
        tree: the last of the `ids`, where these are a token tree.
        bitmask: which tokens may be chosen from each of the logits; None for all.
    """

    prompt: Prompt
    cache: Any
    past: int
    prefill: int
    ids: Sequence[int] = ()
    positions: Sequence[int] = ()
    keep: int = 0
    tree: Tree = NO_TREE
    bitmask: Bitmask | None = None

    @property
    def segment(self) -> Segment:
        """Its tokens as the decoder takes them."""
        visible = torch.from_numpy(ancestors(self.tree)) if self.tree else None
        return Segment(self.cache, self.past, self.prefill + len(self.ids), visible)


class ChoiceRequest(NamedTuple):
    """Tokens to choose from some rows of logits, each at its own answer position."""

    rows: range
    positions: Sequence[int]
    sampling: Sampling


def decoder_for(module: Any) -> Decoder:
    """The fastest decoder for `module` here."""
    if CpuDecoder.fits(module):
        return CpuDecoder(module)
    return PackedDecoder.of(module) or TransformersDecoder(module)


class HfModel:
    """A checkpoint in memory.

    Args:
        model: a transformers model with an output head, in evaluation mode.
        text: its text side.
        images: how it takes images; None for a text-only model.
        grammar: what its answers follow; None where they are free.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        text: CheckpointText,
        images: ImageFamily | None,
        grammar: CompiledGrammar | None = None,
    ) -> None:
        self.model = model.eval()
        self.text = text
        self.images = images
        self.grammar = grammar
        self.decoder: Decoder = decoder_for(model.get_decoder())
        self.vision_encoder = vision_encoder_of(model)
        self.head: Any = model.get_output_embeddings()
        self._to_logits = product_of(self.head)
        self.embedding: Any = model.get_input_embeddings()
        table = cast("torch.Tensor", self.embedding.weight)
        self.device = table.device
        self.three_dimensional = hasattr(getattr(model, "model", None), "get_rope_index")
        image_token_id = getattr(model.config, "image_token_id", None)
        self.image_token_id = -1 if image_token_id is None else int(image_token_id)
        text_config = model.config.get_text_config()
        self.context = int(getattr(text_config, "max_position_embeddings", 0) or 1 << 30)
        known = int(getattr(self.embedding, "num_embeddings", table.shape[0]))
        if known < text.size:
            raise SpecDecodeError(
                f"The checkpoint's embedding has {known} rows but its tokenizer "
                f"{text.size} tokens: the two do not belong together."
            )

    @property
    def packs(self) -> bool:
        """Whether several sequences can share a pass."""
        return self.decoder.cache_shape is not None

    @property
    def layer_count(self) -> int:
        """Number of decoder layers."""
        return len(self.model.get_decoder().layers)

    @property
    def final_norm(self) -> Any:
        """The norm between the last decoder layer and the output head."""
        return self.model.get_decoder().norm

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate caches for so many sequences, each of so many tokens with its prompt.

        This becomes the model's context where that is longer, so that no sequence takes more than was reserved.
        Raises SpecDecodeError where that is not possible.
        """
        tokens = min(tokens, self.context)
        self.decoder.reserve(sessions, tokens)
        self.context = tokens

    def embed(self, inputs: Sequence[SequenceInput]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (1, T, width) and positions of the inputs' tokens, one input after the other."""
        ids = [token for each in inputs for token in each.ids]
        numbers = [position for each in inputs for position in each.positions]
        embeddings = self.embedding(torch.tensor([ids], dtype=torch.long, device=self.device))
        positions = torch.tensor([numbers], dtype=torch.long, device=self.device)
        if self.three_dimensional:
            positions = positions.expand(3, 1, -1)
        if not any(each.prefill for each in inputs):
            return embeddings, positions
        counts = [len(each.ids) for each in inputs]
        behind = zip(inputs, embeddings.split(counts, 1), positions.split(counts, -1), strict=True)
        embedded: list[torch.Tensor] = []
        placed: list[torch.Tensor] = []
        for each, its_embeddings, its_positions in behind:
            prefill = slice(each.past, each.past + each.prefill)
            embedded += each.prompt.embeddings[:, prefill], its_embeddings
            placed += each.prompt.positions[..., prefill], its_positions
        return torch.cat(embedded, dim=1), torch.cat(placed, dim=-1)

    @torch.inference_mode()
    def run(self, inputs: Sequence[SequenceInput], hooks: LayerHooks = NO_HOOKS) -> torch.Tensor:
        """One pass over the inputs, only one of them unless the model `packs`.

        Returns logits (K, vocabulary) of the tokens that each wants to `keep`, one input after the other, minus infinity
        where its grammar forbids a choice; hooks get the hidden states (K, width) of the same tokens. If a pass over
        several raises, their caches hold what they held.
        """
        segments = [each.segment for each in inputs]
        kept: list[int] = []
        end = 0
        for each, segment in zip(inputs, segments, strict=True):
            end += segment.new
            kept += range(end - each.keep, end)
        one = len(inputs) == 1
        rows = (
            slice(end - len(kept), end) if one else torch.tensor(kept, dtype=torch.long, device=self.device)
        )
        on_rows = {index: partial(_call_with_rows, call, rows) for index, call in hooks.items()}
        hidden = self.decoder.run(*self.embed(inputs), segments, on_rows)
        logits = self.logits(hidden[0, rows])
        bitmasks = [each.bitmask for each in inputs if each.bitmask is not None]
        if bitmasks:  # of a model with a grammar every input has one, unless it keeps nothing
            apply_bitmask(logits, np.concatenate(bitmasks))
        return logits

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output head's logits (K, vocabulary) for normed hidden states (K, width)."""
        # Rows of a padded head belong to no token and are never chosen.
        return self._to_logits(hidden)[:, : self.text.size]

    def choose(self, logits: torch.Tensor, positions: Sequence[int], sampling: Sampling) -> tuple[int, ...]:
        """The tokens chosen from rows of logits (K, vocabulary), each at its own answer position."""
        chosen = self.choose_many(logits, [ChoiceRequest(range(len(logits)), positions, sampling)])[0]
        if isinstance(chosen, Exception):
            raise chosen
        return chosen

    def choose_many(
        self, logits: torch.Tensor, requests: Sequence[ChoiceRequest]
    ) -> list[tuple[int, ...] | SpecDecodeError]:
        """`choose` for some rows of logits (K, vocabulary) each; in the place of choices that cannot be made, why."""
        best, tokens = logits.max(dim=-1)
        finite, greedy = best.isfinite().tolist(), tokens.tolist()
        chosen: list[tuple[int, ...] | SpecDecodeError] = []
        for rows, positions, sampling in requests:
            if sampling.temperature == 0 and all(finite[rows.start : rows.stop]):
                chosen.append(tuple(greedy[rows.start : rows.stop]))
                continue
            numbers = logits[rows.start : rows.stop].float().cpu().numpy()
            try:
                each = zip(numbers, positions, strict=True)
                chosen.append(tuple(choose(row[None], position, sampling)[0] for row, position in each))
            except SpecDecodeError as error:
                chosen.append(error)
        return chosen


def _call_with_rows(call: Any, rows: slice | torch.Tensor, hidden: torch.Tensor) -> None:
    call(hidden[0, rows])


class HfSide(TextSide):
    """What drafter and verifier have in common: a checkpoint, and its sessions' memory."""

    def __init__(self, model: HfModel) -> None:
        super().__init__(model.text)
        self.model = model

    @property
    def grammar(self) -> str:
        """See `interfaces.TextCodec`."""
        return self.model.grammar.fingerprint if self.model.grammar else ""

    @property
    def bytes_per_token(self) -> int | None:
        """See `interfaces.SharedModel`."""
        shape = self.model.decoder.cache_shape
        return shape.bytes_per_token if shape else None

    def reserve(self, sessions: int, tokens: int) -> None:
        """See `interfaces.SharedModel`.

        A session takes its cache with its first pass and gives it back when it is closed. One that finds none left is
        refused, and one that outgrows its cache ends there as at the end of the context (see `answer_room`). Sessions in
        one pass are computed faster on reserved caches. Sessions that are open already keep what they have.
        """
        self.model.reserve(sessions, tokens)
