"""Records what a draft model drafts on some frames, and replays it, so that one machine can simulate many robots.

For every frame the target answers alone, which is the reference, and the draft model drafts after every prefix of that
answer. A robot with a `RecordedDrafter` makes the same drafts as with the model, at its pace, without its compute.
"""

from __future__ import annotations

import base64
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Sample
from spec_decode_ros.models.interfaces import GREEDY, Drafter, DraftSession, Verifier

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class RecordedToken:
    """A draft token, and the runner-up with its probability as a draft session reports it."""

    token: int
    runner_up: tuple[int, float] | None = None


@dataclass(frozen=True)
class RecordedFrame:
    """A frame and its prompt as a robot would send them, with the tokens of the action before.

    `answer` are the tokens of the target alone, the reference; `drafts` has the next draft token by the tokens so far.
    """

    prompt: str
    jpeg: bytes
    last: Tokens
    answer: Tokens
    drafts: Mapping[Tokens, RecordedToken]


@dataclass(frozen=True)
class DraftRecording:
    """Recorded frames, and what robots need to know of their pair without loading it.

    `prefill_ms` is the draft model's time to the first token of a frame, `token_ms` its time for every further one.
    `texts` has the text of all recorded token sequences.
    """

    pair: str
    vocabulary: str
    eos_ids: frozenset[int]
    max_tokens: int
    prefill_ms: float
    token_ms: float
    frames: tuple[RecordedFrame, ...]
    texts: Mapping[Tokens, str] = field(default_factory=dict)
    grammar: str = ""

    @property
    def acceptance(self) -> float:
        """Share of the draft tokens after prefixes of the target's answers that are the target's."""
        judged = [
            frame.drafts[frame.answer[:length]].token == token
            for frame in self.frames
            for length, token in enumerate(frame.answer)
            if frame.answer[:length] in frame.drafts
        ]
        return statistics.fmean(judged) if judged else 0.0

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        frames = [
            {
                "prompt": frame.prompt,
                "jpeg": base64.b64encode(frame.jpeg).decode("ascii"),
                "last": frame.last,
                "answer": frame.answer,
                "drafts": [[prefix, said.token, said.runner_up] for prefix, said in frame.drafts.items()],
            }
            for frame in self.frames
        ]
        texts = list(self.texts.items())
        plain = {**vars(self), "eos_ids": sorted(self.eos_ids), "texts": texts, "frames": frames}
        path.write_text(json.dumps(plain), encoding="utf-8")


def load_recording(path: str | Path) -> DraftRecording:
    """Read what :meth:`DraftRecording.save` has written. Raises SpecDecodeError."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        plain["eos_ids"] = frozenset(plain["eos_ids"])
        plain["frames"] = tuple(map(_frame, plain["frames"]))
        plain["texts"] = {tuple(tokens): text for tokens, text in plain["texts"]}
        return DraftRecording(**plain)
    except OSError as error:
        raise SpecDecodeError(f"cannot read the recording {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecDecodeError(f"{path} is no recording of drafts ({error}); record it again") from error


def _frame(plain: Mapping[str, Any]) -> RecordedFrame:
    drafts = {
        tuple(prefix): RecordedToken(token, (second[0], second[1]) if second else None)
        for prefix, token, second in plain["drafts"]
    }
    jpeg = base64.b64decode(plain["jpeg"], validate=True)
    return RecordedFrame(plain["prompt"], jpeg, tuple(plain["last"]), tuple(plain["answer"]), drafts)


def record(
    samples: Sequence[Sample],
    drafter: Drafter,
    verifier: Verifier,
    pair: str,
    prompt_of: Callable[[Sample], str],
    max_tokens: int,
) -> DraftRecording:
    """Record greedy drafts: the target answers every sample, and the draft model drafts after every prefix of the answer.

    The draft model has to be warmed up, for its times are taken.
    """
    first_ms: list[float] = []
    token_ms: list[float] = []
    frames = []
    texts: dict[Tokens, str] = {}
    for sample in samples:
        prompt = prompt_of(sample)
        answer = _answer(verifier, prompt, sample.jpeg, max_tokens)
        began = time.perf_counter()
        session = drafter.open(prompt, [sample.jpeg])
        opened_ms = (time.perf_counter() - began) * 1e3
        drafts: dict[Tokens, RecordedToken] = {}
        took = [
            _draft_on(session, answer[:length], drafts, drafter.eos_ids, max_tokens)
            for length in range(len(answer))
        ]
        session.close()
        first_ms.append(opened_ms + took[0][0])
        token_ms += took[0][1:]
        frames.append(RecordedFrame(prompt, sample.jpeg, sample.last_tokens(drafter), answer, drafts))
        known = {answer[:end] for end in range(len(answer) + 1)}
        known |= {(*prefix, drafted.token) for prefix, drafted in drafts.items()}
        texts |= {tokens: drafter.decode(tokens) for tokens in known - texts.keys()}
    return DraftRecording(
        pair,
        drafter.vocabulary,
        frozenset(drafter.eos_ids),
        max_tokens,
        statistics.median(first_ms),
        statistics.median(token_ms or first_ms),
        tuple(frames),
        texts,
        drafter.grammar,
    )


def record_pair(pair: str, count: int, seed: int) -> DraftRecording:
    """Load a pair and record `count` frames of rooms that no model was trained on; the same seed gives the same frames."""
    from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
    from spec_decode_ros.lab.bench.sample_frames import sample_frames
    from spec_decode_ros.models.pair import load_drafter, load_verifier
    from spec_decode_ros.models.pair_config import load_pair_config
    from spec_decode_ros.models.warmup import warm_up

    config = load_pair_config(pair)
    style = cast(PromptStyle, config.prompt)
    drafter = load_drafter(config, threads=config.draft.threads or 1)
    warm_up(drafter)
    return record(
        sample_frames(count, seed),
        drafter,
        load_verifier(config),
        config.name,
        lambda sample: build_prompt(sample.instruction, sample.last_action, style),
        config.max_tokens,
    )


def _answer(verifier: Verifier, prompt: str, jpeg: bytes, max_tokens: int) -> Tokens:
    session = verifier.prepare(prompt, [jpeg])
    said: list[int] = []
    while len(said) < max_tokens and not (said and said[-1] in verifier.eos_ids):
        said += session.verify(said, (), GREEDY)
    session.close()
    return tuple(said)


def _draft_on(
    session: DraftSession,
    text: Tokens,
    drafts: dict[Tokens, RecordedToken],
    eos: frozenset[int],
    max_tokens: int,
) -> list[float]:
    """Draft after a text until the drafts are known already; milliseconds of each token."""
    took: list[float] = []
    if text in drafts:
        return took
    at = time.perf_counter()
    for token in session.draft(text, GREEDY):
        took.append((time.perf_counter() - at) * 1e3)
        drafts[text] = RecordedToken(token, session.runner_up)
        text = (*text, token)
        if token in eos or text in drafts or len(text) >= max_tokens:
            break
        at = time.perf_counter()
    return took


class RecordedDrafter:
    """Satisfies `interfaces.Drafter`; many robots may share one, each with sessions of its own."""

    def __init__(self, recording: DraftRecording) -> None:
        self._recording = recording
        self._drafts = {(frame.prompt, frame.jpeg): frame.drafts for frame in recording.frames}

    @property
    def eos_ids(self) -> frozenset[int]:
        return self._recording.eos_ids

    @property
    def vocabulary(self) -> str:
        return self._recording.vocabulary

    @property
    def grammar(self) -> str:
        return self._recording.grammar

    def encode(self, text: str) -> list[int]:
        """Raises SpecDecodeError for a text that was not recorded."""
        for tokens, known in self._recording.texts.items():
            if known == text:
                return list(tokens)
        raise SpecDecodeError(f"the recording of drafts does not know the text {text!r}")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the longest prefix of the tokens that was recorded."""
        known = tuple(tokens)
        while known and known not in self._recording.texts:
            known = known[:-1]
        return self._recording.texts.get(known, "")

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> RecordedSession:
        """A session about a frame; without drafts for one that was not recorded."""
        drafts = self._drafts.get((prompt, images[0]), {}) if len(images) == 1 else {}
        return RecordedSession(self._recording, drafts)


class RecordedSession:
    """Satisfies `interfaces.DraftSession`. It waits for each token; for the first one, as long as a prefill takes."""

    def __init__(self, recording: DraftRecording, drafts: Mapping[Tokens, RecordedToken]) -> None:
        self._drafts = drafts
        self._eos = recording.eos_ids
        self._token_s = recording.token_ms / 1e3
        self._prefill_s = recording.prefill_ms / 1e3
        self._turn = 0
        self._newest: RecordedToken | None = None

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        if sampling.temperature:
            raise SpecDecodeError("recorded drafts are greedy ones: set the temperature to 0")
        self._turn += 1
        return self._replay(tuple(prefix), self._turn)

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        raise SpecDecodeError("recorded drafts have no distributions: use the sampler 'gumbel'")

    @property
    def runner_up(self) -> tuple[int, float] | None:
        return self._newest.runner_up if self._newest else None

    def close(self) -> None:
        self._turn += 1

    def _replay(self, text: Tokens, turn: int) -> Iterator[int]:
        due = time.perf_counter()
        while turn == self._turn and not (text and text[-1] in self._eos):
            recorded = self._drafts.get(text)
            if recorded is None:
                return
            # One prefill per session. A wait that was too long makes the next one shorter.
            due += self._prefill_s or self._token_s
            self._prefill_s = 0.0
            time.sleep(max(0.0, due - time.perf_counter()))
            self._newest = recorded
            text = (*text, recorded.token)
            yield recorded.token
