"""One loaded checkpoint: what a drafter and a verifier have in common.

Written against the parts that all decoders of transformers share (embedding, decoder, output head), so that no model
file is copied: image features and positions are worked out here and handed to the decoder, which makes a pass over a
few tokens cheap, keeps sessions that share a model apart, and lets an answer contain any token, even an image
placeholder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from spec_decode_ros.decoding.sampling import choose
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.blocked import product_of
from spec_decode_ros.models.decoder import NOBODY, AfterLayer, Decoder
from spec_decode_ros.models.decoders import decoder_for
from spec_decode_ros.models.packing import Segment
from spec_decode_ros.models.prompts import Prompt, prepare, prepare_many
from spec_decode_ros.models.small_vision import vision_encoder_of
from spec_decode_ros.models.text import CheckpointText, TextSide
from spec_decode_ros.models.together import one_by_one

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spec_decode_ros.decoding.messages import Sampling
    from spec_decode_ros.models.answer import SequenceInput
    from spec_decode_ros.models.vision import ImageFamily


_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """Choices that are wanted from some rows of logits, each at its own answer position."""

    rows: range
    positions: Sequence[int]
    sampling: Sampling


class HfModel:
    """A checkpoint in memory.

    Args:
        model: a transformers model with an output head, in evaluation mode.
        text: its text side.
        images: how it takes images; None for a text-only model.
    """

    def __init__(self, model: PreTrainedModel, text: CheckpointText, images: ImageFamily | None) -> None:
        self.model = model.eval()
        self.text = text
        self.images = images
        self.decoder: Decoder = decoder_for(model.get_decoder())
        self.see = vision_encoder_of(model)
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

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> Prompt:
        """Read the images, run the vision tower, tokenise and embed."""
        return prepare(self, prompt, images)

    def prepare_many(self, prompts: Sequence[tuple[str, Sequence[bytes]]]) -> list[Prompt | Exception]:
        """`prepare` for several, their images together where that can be; in the place of a failure, why."""
        if len(prompts) > 1 and self.images is not None and self.images.joins:
            try:
                return prepare_many(self, prompts)
            except Exception:  # what all images together have failed at is found in each alone
                _log.warning(
                    "Images could not be prepared together; they are prepared one by one.", exc_info=True
                )
        return one_by_one(lambda prompt: self.prepare(*prompt), prompts)

    @property
    def packs(self) -> bool:
        """Whether several answers can share a pass."""
        return self.decoder.cache_shape is not None

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate memory for so many answers at once, each of so many tokens with its prompt.

        This becomes the model's context where that is longer, so that no session takes more than was counted on.
        Raises SpecDecodeError where that is not possible.
        """
        tokens = min(tokens, self.context)
        self.decoder.reserve(sessions, tokens)
        self.context = tokens

    def inputs(self, additions: Sequence[SequenceInput]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (1, T, width) and positions of what the additions put into a pass, one after the other."""
        ids = [token for addition in additions for token in addition.ids]
        numbers = [position for addition in additions for position in addition.positions]
        embeddings = self.embedding(torch.tensor([ids], dtype=torch.long, device=self.device))
        positions = torch.tensor([numbers], dtype=torch.long, device=self.device)
        if self.three_dimensional:
            positions = positions.expand(3, 1, -1)
        if not any(addition.read for addition in additions):
            return embeddings, positions
        counts = [len(addition.ids) for addition in additions]
        behind = zip(additions, embeddings.split(counts, 1), positions.split(counts, -1), strict=True)
        embedded: list[torch.Tensor] = []
        placed: list[torch.Tensor] = []
        for addition, its_embeddings, its_positions in behind:
            prompt, read = addition.answer.prompt, slice(addition.past, addition.past + addition.read)
            embedded += prompt.embeddings[:, read], its_embeddings
            placed += prompt.positions[..., read], its_positions
        return torch.cat(embedded, dim=1), torch.cat(placed, dim=-1)

    @torch.inference_mode()
    def run(self, addition: SequenceInput, after_layer: AfterLayer = NOBODY) -> torch.Tensor:
        """One pass; logits (keep, vocabulary) of the last `keep` tokens.

        What `after_layer` calls gets the hidden states (keep, width) of these alone.
        """
        keep, last = addition.keep, {}
        for index, look in after_layer.items():
            last[index] = lambda hidden, look=look: look(hidden[0, hidden.shape[1] - keep :])
        embeddings, positions = self.inputs([addition])
        cache, seen = addition.answer.cache, addition.seen
        hidden = self.decoder.run(embeddings, positions, cache, addition.past, seen, last)
        return self.logits(hidden[0, hidden.shape[1] - keep :])

    @torch.inference_mode()
    def run_many(self, additions: Sequence[SequenceInput], after_layer: AfterLayer = NOBODY) -> torch.Tensor:
        """One pass over the additions of several answers; logits and hidden states of all tokens kept, in one row.

        Only where `packs`. If it raises, the answers' caches hold what they held.
        """
        kept: list[int] = []
        end = 0
        for addition in additions:
            end += addition.new
            kept += range(end - addition.keep, end)
        rows = torch.tensor(kept, dtype=torch.long, device=self.device)
        segments = [Segment(each.answer.cache, each.past, each.new, each.seen) for each in additions]
        last = {
            index: lambda hidden, look=look: look(hidden[0, rows])  # type: ignore[misc]
            for index, look in after_layer.items()
        }
        hidden = self.decoder.run_many(*self.inputs(additions), segments, last)
        return self.logits(hidden[0, rows])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the output head says of normed hidden states (K, width): (K, vocabulary)."""
        # Rows of a padded head belong to no token and are never chosen.
        return self._to_logits(hidden)[:, : self.text.size]

    def choose(self, logits: torch.Tensor, first_position: int, sampling: Sampling) -> tuple[int, ...]:
        """The tokens that rows of logits (K, V) stand for, the first at answer position `first_position`."""
        return self.choose_at(logits, range(first_position, first_position + len(logits)), sampling)

    def choose_at(
        self, logits: torch.Tensor, positions: Sequence[int], sampling: Sampling
    ) -> tuple[int, ...]:
        """The tokens that rows of logits (K, V) stand for, each at its own answer position."""
        if sampling.temperature == 0:
            best, tokens = logits.max(dim=-1)
            if bool(best.isfinite().all()):
                return tuple(tokens.tolist())
        rows = logits.float().cpu().numpy()
        return tuple(
            choose(rows[index : index + 1], position, sampling)[0] for index, position in enumerate(positions)
        )

    def choose_many(
        self, logits: torch.Tensor, wanted: Sequence[Wanted]
    ) -> list[tuple[int, ...] | SpecDecodeError]:
        """`choose_at` for some rows of logits (K, V) each; in the place of choices that cannot be made, why."""
        best, tokens = logits.max(dim=-1)
        sound, greedy = best.isfinite().tolist(), tokens.tolist()
        chosen: list[tuple[int, ...] | SpecDecodeError] = []
        for rows, positions, sampling in wanted:
            if sampling.temperature == 0 and all(sound[rows.start : rows.stop]):
                chosen.append(tuple(greedy[rows.start : rows.stop]))
                continue
            try:
                chosen.append(self.choose_at(logits[rows.start : rows.stop], positions, sampling))
            except SpecDecodeError as error:
                chosen.append(error)
        return chosen


class HfSide(TextSide):
    """What drafter and verifier alike can do with a checkpoint."""

    def __init__(self, model: HfModel) -> None:
        super().__init__(model.text)
        self.model = model

    @property
    def bytes_per_token(self) -> int | None:
        """What one token of prompt or answer takes in a session's memory; None where none can be reserved."""
        shape = self.model.decoder.cache_shape
        return shape.bytes_per_token if shape else None

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate the memory of so many sessions at once, each of so many `tokens` of prompt, answer and draft.

        A session takes its part with its first pass and gives it back when it is closed. One that finds none left is
        refused, and one that grows beyond its part ends there as at the end of the context (see `answer_room`), rather
        than take memory that nobody has counted. With it the sessions of a pass are also computed faster. Sessions
        that are open already keep what they have. Raises SpecDecodeError for a model whose memory is not known here
        (`bytes_per_token` is None).
        """
        self.model.reserve(sessions, tokens)
