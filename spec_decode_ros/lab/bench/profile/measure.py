"""Times the two models of a pair at published sizes, with random weights: prefill, passes over drafts, early exits.

Everything goes through the sessions that draft and verify, up to the chosen token ids, and waits for the GPU before and
after. What is compared is measured in turns. Times are in milliseconds.
"""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Spread
from spec_decode_ros.lab.bench.profile.random_model import make_model, parameter_count
from spec_decode_ros.lab.bench.profile.shapes import PublishedShape
from spec_decode_ros.models.cached_sequence import CachedSequence
from spec_decode_ros.models.exits import ExitAdapter, Exits
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.interfaces import ExitFigures
from spec_decode_ros.models.prompts import prepare
from spec_decode_ros.models.verifier import HfVerifier, HfVerifySession

WIDTHS = (1, 2, 4, 8, 16)
"""Tokens in a pass."""

EXIT_WIDTH = 4
"""Tokens in the passes with an early exit."""

_ADAPTER_UNITS = 512  # as in training
_GREEDY = Sampling()
_WARM_UPS = 3
_LONGEST_WAIT_S = 60.0

Times = dict[str, tuple[list[float], list[float]]]
"""By name: milliseconds of each call, and of those that return a moment, milliseconds until then."""


@dataclass(frozen=True)
class MeasurementPlan:
    """What to measure: `repeats` samples of each time, with `prompt_tokens` of text, and for VLMs a frame of `image` pixels.

    With `layers` only that number is measured, and all are extrapolated from it.
    """

    device: torch.device
    dtype: torch.dtype
    prompt_tokens: int = 100
    image: tuple[int, int] = (384, 192)
    layers: int | None = None
    repeats: int = 15

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.repeats < 1:
            raise SpecDecodeError("a prompt has at least 1 token, and a time is taken at least once")
        if self.layers is not None and (self.layers < 2 or self.layers % 2):
            raise SpecDecodeError(
                f"an even number of layers is measured, from 2, not {self.layers}: the early exit lies in their middle"
            )
        if min(self.image) < 28:
            raise SpecDecodeError("a frame is at least 28 pixels wide and high")


@dataclass(frozen=True)
class ExitTimes:
    """An early exit after the middle layer: time of a pass with it, and time until its choices were known."""

    passing: Spread
    known: Spread

    @property
    def fraction(self) -> float:
        """Of the pass, from 0 to 1."""
        return min(1.0, self.known.median / self.passing.median)


@dataclass(frozen=True)
class SideTimes:
    """Times of one model.

    `layers` is the number of layers that were measured; times and `parameters` are of all. `prompt_tokens` are with those of
    the image. `prepare` is reading the frame, and the vision encoder; `prefill` the pass over the prompt; `passes` are by
    number of tokens after the prompt; `exits` are by how the early exit is run.
    """

    shape: PublishedShape
    parameters: int
    layers: int
    prompt_tokens: int
    prepare: Spread
    prefill: Spread
    passes: Mapping[int, Spread]
    exits: Mapping[str, ExitTimes]

    @property
    def extrapolated(self) -> bool:
        """Whether only a part of the layers was measured."""
        return self.layers < self.shape.layers

    def line(self) -> PassCost:
        """A straight line through the medians of the passes."""
        return PassCost.through({width: spread.median for width, spread in self.passes.items()})


@dataclass(frozen=True)
class PassCost:
    """A pass over one token takes `step_ms`, every further token `per_token_ms`; `off` is the largest relative error."""

    step_ms: float
    per_token_ms: float
    off: float

    @classmethod
    def through(cls, passes: Mapping[int, float]) -> PassCost:
        """Exact for one token, the base of all comparisons; least squares of the relative errors beyond."""
        step = passes[1]
        widths = np.array(list(passes)) - 1.0
        times = np.array(list(passes.values()))
        slope = max(0.0, float((widths / times) @ (1 - step / times) / np.sum((widths / times) ** 2)))
        off = float(np.max(np.abs((step + slope * widths) / times - 1)))
        return cls(step, slope, off)


def measure(shape: PublishedShape, plan: MeasurementPlan, exits: bool = True) -> SideTimes:
    """Make the model, time it, and free its memory. Raises SpecDecodeError if there is too little memory."""
    model = make_model(shape, plan.device, plan.dtype, plan.layers)
    try:
        return _Bench(model, shape, plan).times(exits)
    finally:
        del model
        gc.collect()
        if plan.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Pass:
    """A call that runs the layers once, and `heads` times the output head over `width` tokens."""

    run: Callable[[], object]
    width: int
    heads: int = 1


class _Bench:
    """One model, ready to be timed."""

    def __init__(self, model: HfModel, shape: PublishedShape, plan: MeasurementPlan) -> None:
        self.model, self.shape, self.plan = model, shape, plan
        self.depth = model.layer_count
        self.factor = shape.layers / self.depth
        self.exits = _middle_exit(model, self.depth)
        self.images = [_frame(plan.image)] if shape.tower else []
        self.prompt = " ".join(str(1 + i % (shape.vocabulary // 2)) for i in range(plan.prompt_tokens))
        self.answer = tuple(1 + i % (shape.vocabulary // 2) for i in range(max(WIDTHS)))
        self.session = self._open()

    def _open(self) -> HfVerifySession:
        return HfVerifier(self.model, self.exits).prepare(self.prompt, self.images)

    def times(self, exits: bool) -> SideTimes:
        prepare = self._prepare_times()
        prefill = self._measured({"prefill": _Pass(self._prefill, 1)})
        self._prefill()
        with ExitStack() as open_ends:
            ways = self._ways(open_ends) if exits else {}
            widths = {f"{width}": _Pass(partial(self._verify, width), width) for width in WIDTHS}
            found = self._measured({**widths, **ways})
        return SideTimes(
            shape=self.shape,
            parameters=parameter_count(self.shape),
            layers=self.depth,
            prompt_tokens=self.session.prompt_tokens,
            prepare=prepare,
            prefill=prefill["prefill"][0],
            passes={width: found[f"{width}"][0] for width in WIDTHS},
            exits={way: ExitTimes(*found[way]) for way in ways},
        )

    def _prefill(self) -> object:
        self.session.close()  # drops the cache
        return self.session.verify((), (), _GREEDY)

    def _verify(self, width: int, on_exit: Callable[..., None] | None = None) -> object:
        """A pass over `width` tokens: the last committed one, and a draft."""
        return self.session.verify(self.answer[:1], self.answer[1:width], _GREEDY, on_exit)

    @torch.inference_mode()
    def _outside(self, width: int) -> object:
        """The part of a pass outside the layers: final norm, output head, choice."""
        model = self.model
        hidden = torch.ones((width, self.shape.width), device=model.device, dtype=model.model.dtype)
        return model.choose(model.logits(model.final_norm(hidden)), range(width), _GREEDY)

    def _prepare_times(self) -> Spread:
        tower = self.shape.tower
        _, measured = self.shape.depths(self.plan.layers)
        if not tower or measured == tower.blocks:
            return Spread.of(self._in_turns({"": self._open})[""][0])
        found = self._in_turns({"all": self._open, "outside": self._open_without_blocks})
        (whole, _), (outside, _) = found["all"], found["outside"]
        blocks = [max(0.0, taken - more) for taken, more in zip(whole, outside, strict=True)]
        return Spread.of(extrapolated(blocks, outside, tower.blocks / measured))

    def _open_without_blocks(self) -> object:
        with _replaced(self.model.model.model.visual, "blocks", nn.ModuleList()):
            return self._open()

    def _ways(self, open_ends: ExitStack) -> dict[str, _Pass]:
        """Passes with an early exit, by how it is run."""
        ways = {"in the pass": _Pass(self._exit_in_the_pass, EXIT_WIDTH, heads=2)}
        if self.plan.device.type == "cuda":
            streamed = StreamedExit(self.exits, self.exits.layers[0], self.plan.device)
            open_ends.callback(streamed.close)
            answer = CachedSequence(self.model, prepare(self.model, self.prompt, self.images))
            # The exit's own output head runs in parallel with the pass.
            ways["beside the pass"] = _Pass(partial(self._exit_beside, answer, streamed), EXIT_WIDTH)
        return ways

    def _exit_in_the_pass(self) -> float:
        """As the verifier does it: the pass goes on when the exit has been read. Returns when that was."""
        at: list[float] = []
        self._verify(EXIT_WIDTH, lambda choices, sure: at.append(time.perf_counter()))
        return at[0]

    def _exit_beside(self, answer: CachedSequence, exit: StreamedExit) -> float:
        logits = answer.logits(self.answer[:EXIT_WIDTH], EXIT_WIDTH, hooks={self.exits.layers[0]: exit.look})
        self.model.choose(logits, range(len(logits)), _GREEDY)
        return exit.told_at()

    def _measured(self, passes: Mapping[str, _Pass]) -> dict[str, tuple[Spread, ...]]:
        """Times of passes of the whole model, and until an exit was known where there is one.

        Where layers are left out, the passes are run without output heads, multiplied, and the heads added.
        """
        if self.factor == 1:
            whole = self._in_turns({name: each.run for name, each in passes.items()})
            return {name: tuple(map(Spread.of, filter(None, times))) for name, times in whole.items()}
        calls: dict[str, Callable[[], object]] = {}
        for name, each in passes.items():
            calls[name] = partial(self._without_head, each.run)
            calls[f"head of {name}"] = partial(self._outside, each.width)
        part = self._in_turns(calls)
        found: dict[str, tuple[Spread, ...]] = {}
        for name, each in passes.items():
            (taken, known), (head, _) = part[name], part[f"head of {name}"]
            found[name] = (Spread.of(extrapolated(taken, head, self.factor, each.heads)),)
            if known:
                found[name] += (Spread.of(extrapolated(known, head, self.factor)),)
        return found

    def _without_head(self, run: Callable[[], object]) -> object:
        with _replaced(self.model, "logits", lambda hidden: hidden[:, :1]):
            return run()

    def _in_turns(self, calls: Mapping[str, Callable[[], object]]) -> Times:
        """Time every call once per round, after some rounds of warm-up."""
        found: Times = {name: ([], []) for name in calls}
        for turn in range(_WARM_UPS + self.plan.repeats):
            for name, call in calls.items():
                self._synchronize()
                start = time.perf_counter()
                moment = call()
                self._synchronize()
                if turn >= _WARM_UPS:
                    taken, known = found[name]
                    taken.append((time.perf_counter() - start) * 1e3)
                    if isinstance(moment, float):
                        known.append((moment - start) * 1e3)
        return found

    def _synchronize(self) -> None:
        if self.plan.device.type == "cuda":
            torch.cuda.synchronize(self.plan.device)


class StreamedExit:
    """An early exit on a GPU stream of its own, so that the pass does not wait for it.

    A hook runs when a layer is launched, which on a GPU is before the layer is computed. Reading its output there would
    hold up the launch of the later layers. Here the exit is queued on its own stream, behind an event that the layer sets,
    and a thread waits for the result.
    """

    def __init__(self, exits: Exits, layer: int, device: torch.device) -> None:
        self._exits, self._layer = exits, layer
        self._stream = torch.cuda.Stream(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="exit")
        self._waiting: Future[float] | None = None

    @torch.inference_mode()
    def look(self, hidden: torch.Tensor) -> None:
        """Queue the exit on rows (K, width) of hidden states, right after the layer; returns at once."""
        reached = torch.cuda.Event()
        reached.record()
        self._stream.wait_event(reached)
        with torch.cuda.stream(self._stream):
            sure, choices = self._exits.logits(self._layer, hidden).float().softmax(-1).max(-1)
            on_cpu = torch.empty((2, len(hidden)), pin_memory=True)
            on_cpu.copy_(torch.stack((choices.float(), sure)), non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
        hidden.record_stream(self._stream)
        self._waiting = self._thread.submit(self._wait, done)

    @staticmethod
    def _wait(done: torch.cuda.Event) -> float:
        done.synchronize()
        return time.perf_counter()

    def told_at(self) -> float:
        """When the choices were there, by `time.perf_counter`."""
        assert self._waiting is not None
        return self._waiting.result(_LONGEST_WAIT_S)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def extrapolated(
    layers: Sequence[float], outside: Sequence[float], factor: float, heads: int = 1
) -> list[float]:
    """Round by round: `factor` times the time of the layers, and `heads` times that of what is outside them."""
    return [inside * factor + more * heads for inside, more in zip(layers, outside, strict=True)]


def _middle_exit(model: HfModel, depth: int) -> Exits:
    width = model.embedding.weight.shape[1]
    # Made-up agreement figures: random weights agree with nothing, and the time does not depend on them.
    imposed = ExitFigures(max(0, depth // 2 - 1), 0.9, 1.0, 1.0, 1.0)
    return Exits(model, [ExitAdapter(width, min(width, _ADAPTER_UNITS))], [imposed])


def _frame(size: tuple[int, int]) -> bytes:
    """A JPEG about as large as a camera's."""
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 256, (height // 14, width // 14, 3), dtype=np.uint8)
    with io.BytesIO() as out:
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        return out.getvalue()


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of an attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
