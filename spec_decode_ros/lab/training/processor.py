"""The shipped pair's processor: a word-level tokenizer for the commands' vocabulary and Qwen2-VL's image processor.

Draft and target share it, so that they have one vocabulary.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from spec_decode_ros.actions.commands import vocabulary
from spec_decode_ros.lab.training.frames import FRAME_SIZE

PATCH = 12
MERGE = 2
SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "eos_token": "<end>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "answer_token": "<answer>",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: text is lower-cased, punctuation is dropped, unknown words become ``<unk>``."""
    words = [*SPECIAL.values(), *vocabulary()]
    tokenizer = Tokenizer(
        WordLevel({word: i for i, word in enumerate(words)}, unk_token=SPECIAL["unk_token"])
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace("’", "'"),
            normalizers.Replace("|", " | "),
            normalizers.Replace(Regex(r"[^a-z0-9|.'\-\s]"), " "),
            # A dot that is not part of a number ends a sentence.
            normalizers.Replace(Regex(r"\.(?![0-9])"), " "),
            # Distances of 1 to 4 m are one word with and without the decimal.
            *(normalizers.Replace(Regex(rf"(?<![0-9.\-]){n}(?![0-9.])"), f"{n}.0") for n in range(1, 5)),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL["pad_token"],
        unk_token=SPECIAL["unk_token"],
        eos_token=SPECIAL["eos_token"],
        extra_special_tokens={
            k: v for k, v in SPECIAL.items() if k not in ("pad_token", "unk_token", "eos_token")
        },
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Qwen2-VL's image processor, configured to resize every frame to 192 x 96."""
    pixels = FRAME_SIZE[0] * FRAME_SIZE[1]
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        temporal_patch_size=1,
        merge_size=MERGE,
        size={"shortest_edge": pixels, "longest_edge": pixels},
    )


def save_processor(folder: Path) -> None:
    """Write tokenizer, chat template and image processor in Hugging Face's layout.

    They are saved one by one: the combined processor class would need a video processor, and that needs torchvision.
    """
    build_tokenizer().save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
