"""Prompts: the text that a model reads with a camera frame."""

from __future__ import annotations

from typing import Literal

from spec_decode_ros.actions.quantities import as_trained

PromptStyle = Literal["trained", "instructed"]

MAX_INSTRUCTION = 400
"""Characters of an instruction, at most; the rest is cut off."""

_FORMAT = """You steer a four-legged robot from its head camera. Answer with one line and nothing else:
vx V wz W | NOTE
V is the forward speed in m/s, 0.0 to 0.6; W is the turn rate in rad/s, -0.8 to 0.8, left is positive.
NOTE is in lower case and one of:
'<colour> <kind> left|ahead|right <metres>' while walking to an object that you see;
'<colour> <kind> reached' with both speeds 0.0 once it is closer than 0.5 m;
'searching <degrees turned so far>' with V 0.0 and W 0.8 or -0.8 while the object is not in view;
'<colour> <kind> not found' after a full turn; 'turning <degrees left>'; 'walking <metres left>';
'done'; 'stopped'; 'stand up'; 'sit down'; 'not understood'; 'refused', both speeds 0.0, if asked to do harm or the
impossible.
Keep clear of other objects. Each answer is carried out for a third of a second.
Example: vx 0.4 wz -0.2 | red chair right 1.5"""


_PLAN_FORMAT = """You plan for a four-legged robot. Turn what its operator says into plain steps in the order in which they
shall be done, joined by '; '. Answer with one line and nothing else. Steps are:
'go to the OBJECT', named by colour and kind ('red chair') or as described ('nearest box', 'box left of the blue ball');
'turn left N degrees' or 'turn right N degrees'; 'walk forward N metres' or 'walk back N metres'; 'stand up'; 'sit down';
'stop', alone, if asked to stop or told not to do something.
Answer 'refused: WHY' if asked to do harm or what such a robot cannot do, 'not understood: WHY' if nothing is asked.
Example: 'could you head over to that crimson seat, then lie down?' is 'go to the red chair; sit down'"""


def clean_instruction(instruction: str) -> str:
    """The instruction in one line, lower case, of bounded length, without the bar that separates the last action."""
    return " ".join(instruction.replace("|", " ").lower().split())[:MAX_INSTRUCTION]


def heard_instruction(instruction: str, style: PromptStyle = "trained") -> str:
    """The instruction as the model reads it: a pair trained on this project's data gets numbers as it knows them."""
    wish = clean_instruction(instruction)
    return (as_trained(wish) or wish) if style == "trained" else wish


def build_prompt(instruction: str, last_action: str | None, style: PromptStyle = "trained") -> str:
    """The text that the model reads with the frame.

    Args:
        instruction: what the operator said.
        last_action: text of the last verified action for the same instruction, or None at the beginning.
        style: ``trained`` for a model trained on this project's data, ``instructed`` for an off-the-shelf
            vision-language model, which needs the format explained.
    """
    wish = heard_instruction(instruction, style)
    last = last_action.strip() if last_action else "none"
    if style == "trained":
        return f"{wish} | last {last}"
    return f"{_FORMAT}\nInstruction: {wish}\nYour last answer: {last}\nYour next answer:"


def build_plan_prompt(sentence: str, style: PromptStyle = "trained") -> str:
    """The text that a planner reads.

    Args:
        sentence: what the operator said.
        style: as of :func:`build_prompt`.
    """
    wish = clean_instruction(sentence)
    return f"{wish}\n" if style == "trained" else f"{_PLAN_FORMAT}\nThe operator says: {wish}\nThe plan:"
