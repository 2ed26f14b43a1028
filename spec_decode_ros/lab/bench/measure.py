"""How long the two sides of a pair take for what a robot and a cloud ask of them, at the sizes of published models.

Everything goes through the sessions that draft and verify in earnest, up to the chosen token ids; a GPU is waited for
before and after. Whatever is compared is measured in turns. Times in milliseconds.
"""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from spec_decode_ros.lab.bench.random_model import make_model, parameter_count
from spec_decode_ros.lab.bench.shapes import PublishedShape
from spec_decode_ros.lab.bench.streamed_exit import StreamedExit
from spec_decode_ros.models.answer import CachedSequence
from spec_decode_ros.models.exits import ExitAdapter, ExitFigures, Exits, final_norm
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.verifier import HfVerifier, HfVerifySession

WIDTHS = (1, 2, 4, 8, 16)
"""Tokens in a pass."""

EXIT_WIDTH = 4
"""Tokens in the passes that early exits are measured in."""

ADAPTER_UNITS = 512
"""Most inner units of an exit's adapter, as in training."""

_GREEDY = Sampling()
_WARM_UPS = 3


@dataclass(frozen=True)
class MeasurementPlan:
    """What to measure, and how.

    Attributes:
        device, dtype: where and in what precision.
        prompt_tokens: text tokens of the prompt.
        image: width and height of the frame, for shapes that see.
        layers: measure so many layers and extrapolate; None measures all. Even, so that an exit can lie in the middle.
        repeats: how often each time is taken.
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
    """An early exit after the middle layer: a pass with it, and when in that pass its choices were known."""

    passing: Spread
    told: Spread

    @property
    def fraction(self) -> float:
        """Of the pass, from 0 to 1."""
        return min(1.0, self.told.median / self.passing.median)


@dataclass(frozen=True)
class SideTimes:
    """One model's times.

    Attributes:
        shape: which model.
        parameters: of the whole of it.
        layers: how many of its layers were measured; the times are of all.
        prompt_tokens: with those of the image.
        prepare: reading the frame and the vision tower; of text, next to nothing.
        prefill: the pass over the prompt.
        passes: by number of tokens, a pass over these behind the prompt.
        exits: ways of running an early exit, by name.
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
        """Whether times of a part of the layers stand for all."""
        return self.layers < self.shape.layers

    def line(self) -> PassCost:
        """The straight line through the medians of the passes."""
        return PassCost.through({width: spread.median for width, spread in self.passes.items()})


@dataclass(frozen=True)
class PassCost:
    """A pass over one token takes `step_ms`, every further one `per_token_ms` more; `off` is the worst relative error."""

    step_ms: float
    per_token_ms: float
    off: float

    @classmethod
    def through(cls, passes: Mapping[int, float]) -> PassCost:
        """Exact for one token, which is what every method is compared with; the least squares of relative errors beyond."""
        step = passes[1]
        widths = np.array(list(passes)) - 1.0
        times = np.array(list(passes.values()))
        slope = max(0.0, float((widths / times) @ (1 - step / times) / np.sum((widths / times) ** 2)))
        off = float(np.max(np.abs((step + slope * widths) / times - 1)))
        return cls(step, slope, off)


def measure(shape: PublishedShape, plan: MeasurementPlan, exits: bool = True) -> SideTimes:
    """Make the model, time it, and give its memory back. Raises SpecDecodeError if there is too little memory."""
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
    """Something to time that runs the layers once and then, `heads` times, the output head over `width` tokens."""

    run: Callable[[], object]
    width: int
    heads: int = 1


class _Bench:
    """One model, ready to be timed."""

    def __init__(self, model: HfModel, shape: PublishedShape, plan: MeasurementPlan) -> None:
        self.model, self.shape, self.plan = model, shape, plan
        self.depth = len(model.model.get_decoder().layers)
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

    # ---- what is timed ------------------------------------------------------------------------------------

    def _prefill(self) -> object:
        self.session.close()  # forgets the cache
        return self.session.verify((), (), _GREEDY)

    def _verify(self, width: int, told: Callable[..., None] | None = None) -> object:
        """A pass over `width` tokens: the one that was committed last, and a draft."""
        return self.session.verify(self.answer[:1], self.answer[1:width], _GREEDY, told)

    @torch.inference_mode()
    def _outside(self, width: int) -> object:
        """What a pass does outside its layers: final norm, output head, choice."""
        model = self.model
        hidden = torch.ones((width, self.shape.width), device=model.device, dtype=model.model.dtype)
        return model.choose(model.logits(final_norm(model)(hidden)), 0, _GREEDY)

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

    # ---- early exits --------------------------------------------------------------------------------------

    def _ways(self, open_ends: ExitStack) -> dict[str, _Pass]:
        """Passes with an early exit, by how it is run."""
        ways = {"in the pass": _Pass(self._exit_in_the_pass, EXIT_WIDTH, heads=2)}
        if self.plan.device.type == "cuda":
            streamed = StreamedExit(self.exits, self.exits.layers[0], self.plan.device)
            open_ends.callback(streamed.close)
            answer = CachedSequence(self.model, self.model.prepare(self.prompt, self.images))
            # An exit's own output head is hidden by the pass.
            ways["beside the pass"] = _Pass(partial(self._exit_beside, answer, streamed), EXIT_WIDTH)
        return ways

    def _exit_in_the_pass(self) -> float:
        """As the verifier does it: the pass goes on when the exit has been read. When that was."""
        at: list[float] = []
        self._verify(EXIT_WIDTH, lambda choices, sure: at.append(time.perf_counter()))
        return at[0]

    def _exit_beside(self, answer: CachedSequence, exit: StreamedExit) -> float:
        logits = answer.logits(
            self.answer[:EXIT_WIDTH], EXIT_WIDTH, after_layer={self.exits.layers[0]: exit.look}
        )
        self.model.choose(logits, 0, _GREEDY)
        return exit.told_at()

    # ---- how it is timed ----------------------------------------------------------------------------------

    def _measured(self, passes: Mapping[str, _Pass]) -> dict[str, tuple[Spread, ...]]:
        """Milliseconds of passes of the whole model, in turns; and until an exit was known, where there is one.

        Where layers are left out, the passes are made without their output heads, multiplied, and the heads added.
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

    def _in_turns(
        self, calls: Mapping[str, Callable[[], object]]
    ) -> dict[str, tuple[list[float], list[float]]]:
        """Milliseconds of each call, one after the other in every round, after some rounds to warm up.

        And, of calls that return a moment, the milliseconds until then.
        """
        found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in calls}
        for turn in range(_WARM_UPS + self.plan.repeats):
            for name, call in calls.items():
                self._finish()
                start = time.perf_counter()
                moment = call()
                self._finish()
                if turn >= _WARM_UPS:
                    taken, known = found[name]
                    taken.append((time.perf_counter() - start) * 1e3)
                    if isinstance(moment, float):
                        known.append((moment - start) * 1e3)
        return found

    def _finish(self) -> None:
        if self.plan.device.type == "cuda":
            torch.cuda.synchronize(self.plan.device)


def extrapolated(
    layers: Sequence[float], outside: Sequence[float], factor: float, heads: int = 1
) -> list[float]:
    """Times of `factor` times as many layers, with so many times what is `outside` them, each pair of one round."""
    return [inside * factor + more * heads for inside, more in zip(layers, outside, strict=True)]


def _middle_exit(model: HfModel, depth: int) -> Exits:
    width = model.embedding.weight.shape[1]
    # Imposed figures: random weights agree with nothing, and the time does not depend on them.
    imposed = ExitFigures(max(0, depth // 2 - 1), 0.9, 1.0, 1.0, 1.0)
    return Exits(model, [ExitAdapter(width, min(width, ADAPTER_UNITS))], [imposed])


def _frame(size: tuple[int, int]) -> bytes:
    """A JPEG with as much in it as a camera's."""
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
