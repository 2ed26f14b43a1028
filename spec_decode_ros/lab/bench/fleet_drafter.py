"""A draft model that plays back what it once said, at the pace that it had, without its compute."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet_recording import DraftRecording, Next, RecordedFrame, Tokens

_NOTHING: Mapping[Tokens, Next] = {}


class RecordedDrafter:
    """Satisfies `interfaces.Drafter`; any number of robots may share one, each with sessions of its own."""

    def __init__(self, recording: DraftRecording) -> None:
        self._recording = recording
        self._frames = {(frame.prompt, frame.jpeg): frame for frame in recording.frames}

    @property
    def eos_ids(self) -> frozenset[int]:
        return self._recording.eos_ids

    @property
    def vocabulary(self) -> str:
        return self._recording.vocabulary

    def encode(self, text: str) -> list[int]:
        """Raises SpecDecodeError for a text that was not recorded."""
        for tokens, said in self._recording.texts.items():
            if said == text:
                return list(tokens)
        raise SpecDecodeError(f"the recording of drafts does not know the text {text!r}")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of as many of the tokens as were recorded in that order."""
        known = tuple(tokens)
        while known and known not in self._recording.texts:
            known = known[:-1]
        return self._recording.texts.get(known, "")

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> RecordedSession:
        """A frame that was not recorded is one about which nothing is drafted."""
        frame = self._frames.get((prompt, images[0])) if len(images) == 1 else None
        return RecordedSession(self._recording, frame)


class RecordedSession:
    """Satisfies `interfaces.DraftSession`. Time passes by waiting, the first token's with the prompt's."""

    def __init__(self, recording: DraftRecording, frame: RecordedFrame | None) -> None:
        self._drafts = frame.drafts if frame else _NOTHING
        self._eos = recording.eos_ids
        self._token_s = recording.token_ms / 1e3
        self._prompt_s = recording.prefill_ms / 1e3
        self._turn = 0
        self._newest: Next | None = None

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        if sampling.temperature:
            raise SpecDecodeError("recorded drafts are greedy ones: set the temperature to 0")
        self._turn += 1
        return self._played(tuple(prefix), self._turn)

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        raise SpecDecodeError("recorded drafts have no distributions: use the sampler 'gumbel'")

    @property
    def runner_up(self) -> tuple[int, float] | None:
        return self._newest.runner_up if self._newest else None

    def close(self) -> None:
        self._turn += 1

    def _played(self, text: Tokens, turn: int) -> Iterator[int]:
        due = time.perf_counter()
        while turn == self._turn and not (text and text[-1] in self._eos):
            said = self._drafts.get(text)
            if said is None:
                return
            # The prompt is read once in a session. What a wait is too long, the next one is shorter.
            due += self._prompt_s or self._token_s
            self._prompt_s = 0.0
            time.sleep(max(0.0, due - time.perf_counter()))
            self._newest = said
            text = (*text, said.token)
            yield said.token
