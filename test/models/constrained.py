"""A pair whose answers are constrained to actions, and what a test asks of it."""

from __future__ import annotations

from pathlib import Path

import tiny_checkpoints

from spec_decode_ros.actions.action import ActionError, format_action, parse_action
from spec_decode_ros.actions.grammar import ACTION_GRAMMAR
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.grammar import Grammar
from spec_decode_ros.models.verifier import HfVerifier

ACTION = Grammar("action", ACTION_GRAMMAR)
PROMPT = "go to the red chair | last none"
IMAGES = [tiny_checkpoints.jpeg(1)]


def make_instructed_pair(root: Path) -> Path:
    """A random pair with images that is told the format in its prompt; its file."""
    tiny_checkpoints.make_qwen2_vl_pair(root)
    return tiny_checkpoints.write_pair(root, prompt="instructed", max_tokens=96)


def alone(verifier: HfVerifier, sampling: Sampling) -> list[int]:
    """What the target says token by token."""
    session = verifier.prepare(PROMPT, IMAGES)
    tokens: list[int] = []
    while not (tokens and tokens[-1] in verifier.eos_ids):
        tokens += session.verify(tokens, (), sampling)
    return tokens


def is_action(text: str) -> bool:
    """Whether it is an action as the pairs write it."""
    try:
        action = parse_action(text)
    except ActionError:
        return False
    return not action.contradiction and format_action(action) == text
