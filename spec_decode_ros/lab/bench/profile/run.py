"""Runs `spec-decode profile`: times a draft and a target of published shapes, and writes their profile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_text
from spec_decode_ros.lab.bench.machine import machine
from spec_decode_ros.lab.bench.profile.measure import MeasurementPlan, measure
from spec_decode_ros.lab.bench.profile.measured_profile import (
    Assumed,
    as_json,
    described,
    profile_document,
    profile_text,
)
from spec_decode_ros.lab.bench.profile.profile import load_profile
from spec_decode_ros.lab.bench.profile.random_model import require_memory
from spec_decode_ros.lab.bench.profile.shapes import shape_named

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class TimingOptions:
    """What is timed: two shapes by name, on `auto`, `cuda` or `cpu`.

    `dtype` is bf16 or fp32, by default bf16 on a GPU; `threads` 0 is as many as torch takes; with `layers` only that many
    are measured; `image` is the frame for VLMs.
    """

    draft: str
    target: str
    device: str = "auto"
    dtype: str | None = None
    threads: int = 0
    layers: int | None = None
    prompt_tokens: int = 100
    image: str = "384x192"
    repeats: int = 15

    def plan(self) -> MeasurementPlan:
        """The plan of the measurement. Raises SpecDecodeError."""
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", self.image)
        if not size:
            raise SpecDecodeError(
                f"--image is a width and a height in pixels, such as 640x480, not {self.image!r}"
            )
        device = _device(self.device)
        return MeasurementPlan(
            device,
            _DTYPES[self.dtype or ("bf16" if device.type == "cuda" else "fp32")],
            prompt_tokens=self.prompt_tokens,
            image=(int(size[1]), int(size[2])),
            layers=self.layers,
            repeats=self.repeats,
        )


def time_pair(options: TimingOptions, assumed: Assumed, out: str, console: Console) -> dict[str, Any]:
    """Measure, print, write the profile, and return every time for JSON. Raises SpecDecodeError."""
    shapes = [shape_named(options.draft), shape_named(options.target)]
    if Path(out).suffix not in (".yaml", ".yml"):
        raise SpecDecodeError("--out has to end in .yaml, or simulate takes it for the name of a profile")
    plan = options.plan()
    for shape in shapes:
        require_memory(shape, plan.device, plan.dtype, plan.layers)
    with _threads(options.threads):
        on = _machine_in_words(plan)
        console.print(f"on {on}; random weights; medians (quartiles) in ms")
        sides = []
        for shape, exits in zip(shapes, (False, True), strict=True):
            with console.status(f"timing {shape.name}"):
                sides.append(measure(shape, plan, exits))
            for line in described(sides[-1]):
                console.print(line)
    draft, target = sides
    document = profile_document(draft, target, assumed, on, plan.image)
    write_text(Path(out), profile_text(document, sides, assumed))
    load_profile(out)
    console.print(f"wrote {out}: spec-decode simulate --profile {out}")
    return {"machine": on, "draft": as_json(draft), "target": as_json(target), "profile": document}


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecDecodeError(
            "there is no usable CUDA GPU here: take --device cpu, with --layers for large shapes"
        )
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of CPU threads for a while; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine_in_words(plan: MeasurementPlan) -> str:
    found = machine()
    if plan.device.type == "cuda":
        where = f"{found['accelerator']}, CUDA {torch.version.cuda}"
    else:
        threads = torch.get_num_threads()
        where = f"{found['processor']}, {threads} thread{'s' if threads > 1 else ''}"
    dtype = str(plan.dtype).removeprefix("torch.")
    return f"{where}, {dtype}, torch {found['torch']}, transformers {found['transformers']}"
