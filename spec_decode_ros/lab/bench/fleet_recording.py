"""What a draft model says about some frames, recorded, so that a machine can play many robots at once.

For every frame the target answers alone, which is the reference, and the draft model goes on from every prefix of that
answer. A robot that plays this back makes the same drafts as with the model, without its compute.
"""

from __future__ import annotations

import base64
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Sample
from spec_decode_ros.models.interfaces import GREEDY, Drafter, DraftSession, Verifier

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Next:
    """What the draft model says after some text: a token, and what would have come second, as a session tells it."""

    token: int
    runner_up: tuple[int, float] | None = None


@dataclass(frozen=True)
class RecordedFrame:
    """One frame as a robot would send it.

    Attributes:
        prompt: the text that goes with it.
        jpeg: the picture.
        last: tokens of the action before.
        answer: tokens of the target alone, the reference.
        drafts: what the draft model says next, by the tokens so far.
    """

    prompt: str
    jpeg: bytes
    last: Tokens
    answer: Tokens
    drafts: Mapping[Tokens, Next]


@dataclass(frozen=True)
class DraftRecording:
    """Frames, and what robots need to know of their pair without loading it.

    Attributes:
        pair: its name. vocabulary: fingerprint of its vocabulary. eos_ids: tokens that end an answer.
        max_tokens: longest answer.
        prefill_ms: what the draft model took for the first token about a frame.
        token_ms: what it took for every further one.
        texts: what the recorded tokens mean.
    """

    pair: str
    vocabulary: str
    eos_ids: frozenset[int]
    max_tokens: int
    prefill_ms: float
    token_ms: float
    frames: tuple[RecordedFrame, ...]
    texts: Mapping[Tokens, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.frames:
            raise SpecDecodeError("a recording needs at least one frame")
        if not (self.prefill_ms >= 0 and self.token_ms >= 0):
            raise SpecDecodeError("times of a draft model must be 0 or more")

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens, looked at one by one along the target's answers, that are the target's."""
        judged = [
            frame.drafts[frame.answer[:length]].token == token
            for frame in self.frames
            for length, token in enumerate(frame.answer)
            if frame.answer[:length] in frame.drafts
        ]
        return statistics.fmean(judged) if judged else 0.0

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(_plain(self)), encoding="utf-8")


def load_recording(path: str | Path) -> DraftRecording:
    """What :meth:`DraftRecording.save` has written. Raises SpecDecodeError."""
    try:
        return _recording(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecDecodeError(f"cannot read the recording {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecDecodeError(f"{path} is no recording of drafts ({error}); record it again") from error


def record(
    samples: Sequence[Sample],
    drafter: Drafter,
    verifier: Verifier,
    pair: str,
    prompt_of: Callable[[Sample], str],
    max_tokens: int,
) -> DraftRecording:
    """Let the target answer every sample alone, and the draft model go on from every prefix of the answer; greedily.

    Args:
        samples: moments of missions.
        drafter: the draft model, warm: its times are taken.
        verifier: the target.
        pair: name of the pair.
        prompt_of: the prompt for a sample.
        max_tokens: longest answer.
    """
    first_ms: list[float] = []
    token_ms: list[float] = []
    frames = []
    texts: dict[Tokens, str] = {}
    for sample in samples:
        prompt = prompt_of(sample)
        last = tuple(drafter.encode(sample.last_action)) if sample.last_action else ()
        if last and len(drafter.eos_ids) == 1:
            last += tuple(
                drafter.eos_ids
            )  # as on the robot, where an answer is kept with the token that ended it
        answer = _answer(verifier, prompt, sample.jpeg, max_tokens)
        began = time.perf_counter()
        session = drafter.open(prompt, [sample.jpeg])
        opened_ms = (time.perf_counter() - began) * 1e3
        drafts: dict[Tokens, Next] = {}
        took = [
            _continue(session, answer[:length], drafts, drafter.eos_ids, max_tokens)
            for length in range(len(answer))
        ]
        session.close()
        first_ms.append(opened_ms + took[0][0])
        token_ms += took[0][1:]
        frames.append(RecordedFrame(prompt, sample.jpeg, last, answer, drafts))
        said = {answer, *((*prefix, drafted.token) for prefix, drafted in drafts.items())}
        texts |= {tokens: drafter.decode(tokens) for tokens in said if tokens not in texts}
        texts |= {answer[:end]: drafter.decode(answer[:end]) for end in range(len(answer))}
    return DraftRecording(
        pair,
        drafter.vocabulary,
        frozenset(drafter.eos_ids),
        max_tokens,
        statistics.median(first_ms),
        statistics.median(token_ms or first_ms),
        tuple(frames),
        texts,
    )


def record_pair(pair: str, count: int, seed: int) -> DraftRecording:
    """Load a pair and record `count` frames of rooms that no model was trained on; the same seed gives the same frames."""
    from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
    from spec_decode_ros.lab.bench.moments import moments
    from spec_decode_ros.models.pair import load_drafter, load_pair_config, load_verifier
    from spec_decode_ros.models.warmup import warm_up

    config = load_pair_config(pair)
    drafter = load_drafter(config, threads=config.draft.threads or 1)
    warm_up(drafter)
    return record(
        moments(count, seed),
        drafter,
        load_verifier(config),
        config.name,
        lambda sample: build_prompt(sample.instruction, sample.last_action, cast(PromptStyle, config.prompt)),
        config.max_tokens,
    )


def _answer(verifier: Verifier, prompt: str, jpeg: bytes, max_tokens: int) -> Tokens:
    session = verifier.prepare(prompt, [jpeg])
    said: list[int] = []
    while len(said) < max_tokens and not (said and said[-1] in verifier.eos_ids):
        said += session.verify(said, (), GREEDY)
    session.close()
    return tuple(said)


def _continue(
    session: DraftSession,
    text: Tokens,
    drafts: dict[Tokens, Next],
    eos: frozenset[int],
    max_tokens: int,
) -> list[float]:
    """Draft on after a text up to where it is known; milliseconds of each token."""
    took: list[float] = []
    if text in drafts:
        return took
    at = time.perf_counter()
    for token in session.draft(text, GREEDY):
        took.append((time.perf_counter() - at) * 1e3)
        drafts[text] = Next(token, session.runner_up)
        text = (*text, token)
        if token in eos or text in drafts or len(text) >= max_tokens:
            break
        at = time.perf_counter()
    return took


def _plain(recording: DraftRecording) -> dict[str, Any]:
    return {
        **{name: getattr(recording, name) for name in ("pair", "vocabulary", "max_tokens")},
        **{name: getattr(recording, name) for name in ("prefill_ms", "token_ms")},
        "eos_ids": sorted(recording.eos_ids),
        "texts": [[tokens, text] for tokens, text in recording.texts.items()],
        "frames": [
            {
                "prompt": frame.prompt,
                "jpeg": base64.b64encode(frame.jpeg).decode("ascii"),
                "last": frame.last,
                "answer": frame.answer,
                "drafts": [[prefix, said.token, said.runner_up] for prefix, said in frame.drafts.items()],
            }
            for frame in recording.frames
        ],
    }


def _recording(plain: Mapping[str, Any]) -> DraftRecording:
    return DraftRecording(
        plain["pair"],
        plain["vocabulary"],
        frozenset(plain["eos_ids"]),
        plain["max_tokens"],
        plain["prefill_ms"],
        plain["token_ms"],
        tuple(map(_frame, plain["frames"])),
        {tuple(tokens): text for tokens, text in plain["texts"]},
    )


def _frame(plain: Mapping[str, Any]) -> RecordedFrame:
    drafts = {
        tuple(prefix): Next(token, (second[0], second[1]) if second else None)
        for prefix, token, second in plain["drafts"]
    }
    jpeg = base64.b64decode(plain["jpeg"], validate=True)
    return RecordedFrame(plain["prompt"], jpeg, tuple(plain["last"]), tuple(plain["answer"]), drafts)
