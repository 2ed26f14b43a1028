"""One loaded checkpoint, and answers that grow on it with a rolled-back cache.

Written against the parts that all decoders of transformers share (embedding, decoder, output head), so that no model
file is copied: image features and positions are worked out here and handed to the decoder, which makes a pass over a
few tokens cheap, keeps sessions that share a model apart, and lets an answer contain any token, even an image
placeholder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from spec_decode_ros.decoding.sampling import choose
from spec_decode_ros.decoding.tree import Tree, ancestors
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.decoders import NOBODY, AfterLayer, Decoder, decoder_for
from spec_decode_ros.models.positions import multimodal_positions
from spec_decode_ros.models.text import CheckpointText
from spec_decode_ros.models.vision import ImageFamily, read_images

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spec_decode_ros.decoding.messages import Sampling


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


NO_TREE = Tree()


class HfModel:
    """A checkpoint in memory: what a drafter and a verifier have in common.

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
        self.head: Any = model.get_output_embeddings()
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

    @torch.inference_mode()
    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> Prompt:
        """Read the images, run the vision tower, tokenise and embed."""
        if images and self.images is None:
            raise SpecDecodeError(
                "This model pair takes text only: leave the image away or choose another pair."
            )
        rendered = self.text.render(prompt, len(images))
        features: Sequence[torch.Tensor] = ()
        inputs: dict[str, torch.Tensor] = {}
        if images and self.images is not None:
            inputs = self.images.inputs(read_images(images))
            features = self._features(inputs)
            rendered = self._expand(rendered, self.images.placeholders(inputs, features))
        ids = self.text.encode_prompt(rendered)
        if not ids:
            raise SpecDecodeError("The prompt is empty: give an instruction.")
        row = torch.tensor([ids], device=self.device)
        embeddings = self.embedding(row)
        if features:
            places = row[0] == self.image_token_id
            flat = torch.cat(list(features)).to(embeddings)
            if int(places.sum()) != len(flat):
                raise SpecDecodeError(
                    f"The prompt has {int(places.sum())} places for {len(flat)} image tokens: the chat template and "
                    "the image processor of this checkpoint do not fit together."
                )
            embeddings[0, places] = flat
        if self.three_dimensional and features:
            merge = self.model.config.vision_config.spatial_merge_size
            positions, following = multimodal_positions(
                ids, self.image_token_id, inputs["image_grid_thw"].tolist(), merge
            )
            positions = positions.to(self.device)
        else:
            positions, following = self.plain_positions(0, len(ids)), len(ids)
        return Prompt(tuple(ids), embeddings, positions, following)

    def _features(self, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Image features, one (tokens, width) for each image."""
        moved = {
            name: value.to(self.device, self.model.dtype)
            if value.is_floating_point()
            else value.to(self.device)
            for name, value in inputs.items()
        }
        return list(self.model.get_image_features(**moved, return_dict=True).pooler_output)  # type: ignore[operator]

    def _expand(self, rendered: str, placeholders: Sequence[str]) -> str:
        """Put each image's placeholders in the place of its one image token."""
        parts = rendered.split(self.text.image_token)
        if len(parts) != len(placeholders) + 1:
            raise SpecDecodeError(
                f"The chat template made room for {len(parts) - 1} images where {len(placeholders)} were sent: this "
                "checkpoint's template does not take that many."
            )
        return "".join(part + image for part, image in zip(parts, [*placeholders, ""], strict=True))

    def plain_positions(self, start: int, stop: int) -> torch.Tensor:
        """Positions start to stop - 1, in the shape that the decoder takes."""
        positions = torch.arange(start, stop, device=self.device).unsqueeze(0)
        return positions.expand(3, 1, -1) if self.three_dimensional else positions

    @torch.inference_mode()
    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        past: int,
        keep: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        """One pass over new tokens behind `past` cached ones; logits (keep, vocabulary) of the last `keep`.

        What `after_layer` calls gets the hidden states (keep, width) of these alone.
        """
        last = {
            index: lambda hidden, look=look: look(hidden[0, -keep:])  # type: ignore[misc]
            for index, look in after_layer.items()
        }
        hidden = self.decoder.run(embeddings, positions, cache, past, seen, last)
        # Rows of a padded head belong to no token and are never chosen.
        return self.head(hidden[0, -keep:])[:, : self.text.size]

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


class Answer:
    """The cache of one prompt and one answer, kept at what the next pass has in common with the last."""

    def __init__(self, model: HfModel, prompt: Prompt) -> None:
        self.model = model
        self.prompt = prompt
        self._cache: Any = None
        self._cached: list[int] = []
        self._tree = NO_TREE  # what the cache holds behind `_cached`
        self._length = 0

    @property
    def unread(self) -> int:
        """How many tokens of the prompt the cache does not hold yet."""
        return max(0, len(self.prompt.ids) - self._length)

    def logits(
        self,
        answer: Sequence[int],
        keep: int,
        tree: Tree = NO_TREE,
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        """Logits (keep, vocabulary) that follow the last `keep` tokens of prompt, `answer` and `tree`.

        Tokens outside the vocabulary stand for token 0: they can never be chosen, so what follows them is never used.
        What `after_layer` calls gets the hidden states (keep, width) of the same tokens as the pass goes on.
        """
        tokens = self._known(answer)
        length = len(self.prompt.ids) + len(tokens) + len(tree)
        # The tokens whose outputs are asked for go through the model in any case.
        past = self._settle(tokens, tree.height, length - keep)
        embeddings, positions = self._inputs(tokens, tree, past)
        seen = torch.from_numpy(ancestors(tree)) if tree else None
        try:
            logits = self.model.run(embeddings, positions, self._cache, past, keep, seen, after_layer)
        except BaseException:
            self.close()  # a pass that broke off leaves the layers at different lengths
            raise
        self._cached, self._tree, self._length = tokens, tree, length
        return logits

    def shallow(
        self, answer: Sequence[int], depth: int, read: Callable[[torch.Tensor, int], int | None], count: int
    ) -> list[int]:
        """Up to `count` tokens that follow `answer`, written one by one with the first `depth` layers only.

        The cache holds afterwards what a full pass has put there, as if nothing had been written. Ends early with an
        end token, and where the context is full.

        Args:
            read: makes a token of hidden states (1, width) and of its position in the answer, or None to stop.
        """
        tokens = self._known(answer)
        start, begin = len(tokens), len(self.prompt.ids)
        settled = past = self._settle(tokens, 0, begin + start - 1)
        decoder = self.model.decoder
        try:
            while len(tokens) - start < count and begin + len(tokens) <= self.model.context:
                embeddings, positions = self._inputs(tokens, NO_TREE, past)
                with torch.inference_mode():
                    hidden = decoder.run(embeddings, positions, self._cache, past, depth=depth)
                past = begin + len(tokens)
                token = read(hidden[0, -1:], len(tokens))
                if token is None:
                    break
                tokens.append(token)
                if token in self.model.text.eos_ids:
                    break
            with torch.inference_mode():
                decoder.roll_back(self._cache, past, settled, depth)
        except BaseException:
            self.close()
            raise
        return tokens[start:]

    def _settle(self, tokens: list[int], further: int, most: int) -> int:
        """Forget what the cache does not share with `tokens`, and what is behind `most`; how many tokens it then holds.

        Raises SpecDecodeError where the prompt, `tokens` and `further` ones exceed the context.
        """
        self._keep_branch(tokens)
        begin = len(self.prompt.ids)
        if begin + len(tokens) + further > self.model.context:
            raise SpecDecodeError(
                f"Prompt and answer are longer than the model's context of {self.model.context} tokens: shorten the "
                "instruction or send a smaller image."
            )
        common = 0
        for cached, token in zip(self._cached, tokens, strict=False):
            if cached != token:
                break
            common += 1
        past = min(self._length, begin + common, most)
        self._roll_back(past)
        self._cached, self._length = self._cached[: max(0, past - begin)], past
        return past

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """The tokens, token 0 in place of those outside the vocabulary."""
        size = self.model.text.size
        return [token if 0 <= token < size else 0 for token in tokens]

    @torch.inference_mode()
    def _keep_branch(self, tokens: list[int]) -> None:
        """Of the tree that the cache holds, keep the branch that the answer `tokens` follows, as if it was a draft."""
        start = len(self._cached)
        if not self._tree:
            return
        nodes = self._tree.follow(tokens[start:])
        first = len(self.prompt.ids) + start
        if nodes != tuple(range(len(nodes))):
            self.model.decoder.move_up(self._cache, first, nodes)
        self.model.decoder.roll_back(self._cache, self._length, first + len(nodes))
        self._cached = [*self._cached, *tokens[start : start + len(nodes)]]
        self._tree, self._length = NO_TREE, first + len(nodes)

    @torch.inference_mode()
    def _inputs(self, tokens: list[int], tree: Tree, past: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and positions of everything behind the first `past` tokens of prompt, answer and tree."""
        model, prompt = self.model, self.prompt
        start = max(past - len(prompt.ids), 0)
        embeddings = [prompt.embeddings[:, past:]] if past < len(prompt.ids) else []
        positions = [prompt.positions[..., past:]] if past < len(prompt.ids) else []
        if start < len(tokens):
            embeddings.append(model.embedding(torch.tensor([tokens[start:]], device=model.device)))
            following = prompt.next_position
            positions.append(model.plain_positions(following + start, following + len(tokens)))
        if tree:
            row = torch.tensor([self._known(tree.tokens)], device=model.device)
            embeddings.append(model.embedding(row))
            end = prompt.next_position + len(tokens)
            positions.append(model.plain_positions(end, end + tree.height)[..., list(tree.depths)])
        if len(embeddings) == 1:
            return embeddings[0], positions[0]
        return torch.cat(embeddings, dim=1), torch.cat(positions, dim=-1)

    def _roll_back(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        if self._cache is None or length == 0:
            self._cache = self.model.decoder.new_cache()
        elif length < self._length:
            self.model.decoder.roll_back(self._cache, self._length, length)

    def close(self) -> None:
        """Free the cache; a later call to `logits` begins again."""
        self._cache, self._cached, self._tree, self._length = None, [], NO_TREE, 0
