"""The text side of a checkpoint: text to token ids and back, chat template, special tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.vocabulary import fingerprint, vocabulary_size


class CheckpointText:
    """The text side of a checkpoint.

    Args:
        tokenizer: the checkpoint's tokenizer.
        eos_ids: token ids that end an answer.
        template: Jinja chat template with which prompts are wrapped, or None for plain text.
        image_token: the placeholder that stands for one image in rendered text, or None for a text-only model.
        template_settings: further values for the template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Sequence[int],
        template: str | None,
        image_token: str | None,
        template_settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = frozenset(int(index) for index in eos_ids)
        self.template = template
        self.image_token = image_token
        self._template_settings = dict(template_settings or {})
        self.size = vocabulary_size(tokenizer)
        reserved = {token for token in tokenizer.all_special_tokens if len(token) > 1}
        if image_token:
            reserved.add(image_token)
        self._reserved = re.compile(
            "|".join(map(re.escape, sorted(reserved, key=len, reverse=True))) or r"(?!)"
        )

    @cached_property
    def vocabulary(self) -> str:
        """Fingerprint of the vocabulary."""
        return fingerprint(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Answer text to token ids, without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to answer text, special tokens and ids outside the vocabulary left out."""
        known = [int(token) for token in tokens if 0 <= token < self.size]
        text = self.tokenizer.decode(known, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def render(self, prompt: str, image_count: int) -> str:
        """The whole text that the model reads: one user message, images before the text, then the answer's start.

        Special tokens that are spelled out in `prompt` are broken up, so that an operator's sentence can neither
        end the message nor claim an image.
        """
        prompt = self._reserved.sub(lambda match: match[0][0] + " " + match[0][1:], prompt)
        if self.template is None:
            return (self.image_token or "") * image_count + prompt
        content: Any = prompt
        if self.image_token:
            content = [*({"type": "image"} for _ in range(image_count)), {"type": "text", "text": prompt}]
        return _render(self.tokenizer, self.template, content, self._template_settings)

    def encode_prompt(self, rendered: str) -> list[int]:
        """Token ids of a rendered prompt; a leading special token that the template wrote is not added again."""
        bos = self.tokenizer.bos_token
        return self.tokenizer.encode(rendered, add_special_tokens=not (bos and rendered.startswith(bos)))


def check_template(
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
    image_token: str | None,
    settings: Mapping[str, Any],
) -> None:
    """Raise SpecDecodeError for a chat template that cannot wrap a message."""
    if template is not None:
        _render(tokenizer, template, [{"type": "text", "text": "go"}] if image_token else "go", settings)


def _render(
    tokenizer: PreTrainedTokenizerBase, template: str, content: Any, settings: Mapping[str, Any]
) -> str:
    """One user message as the template wraps it. Raises SpecDecodeError: a template is a program of somebody else's."""
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            **settings,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise SpecDecodeError(
            f"The chat template cannot be used ({reason}): correct chat_template in the pair file, or get the checkpoint "
            "again."
        ) from error
    assert isinstance(rendered, str)
    return rendered


class TextSide:
    """Base class of drafters and verifiers: `interfaces.TextCodec` by a checkpoint's text side."""

    def __init__(self, text: CheckpointText) -> None:
        self._text = text
        self.encode, self.decode = text.encode, text.decode

    @property
    def eos_ids(self) -> frozenset[int]:
        return self._text.eos_ids

    @property
    def vocabulary(self) -> str:
        return self._text.vocabulary

    @property
    def grammar(self) -> str:
        return ""
