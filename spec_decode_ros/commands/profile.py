"""Times a pair of published shapes on this machine, with random weights, and writes a profile for `simulate`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.bench.shapes import SHAPES, shape_named

if TYPE_CHECKING:
    import torch

    from spec_decode_ros.lab.bench.measure import MeasurementPlan

_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(SHAPES)
    parser.add_argument("--draft", required=True, metavar="SHAPE", help=f"of the robot's model: {names}")
    parser.add_argument("--target", required=True, metavar="SHAPE", help="of the cloud's model")
    parser.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto takes a GPU if there is one"
    )
    parser.add_argument("--dtype", choices=tuple(_DTYPES), help="by default bf16 on a GPU, fp32 elsewhere")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of the CPU; by default as many as torch takes"
    )
    parser.add_argument(
        "--layers",
        type=int,
        metavar="N",
        help="measure only so many layers and extrapolate, which the result says",
    )
    parser.add_argument(
        "--prompt-tokens", type=int, default=100, metavar="N", help="text of the prompt (%(default)s)"
    )
    parser.add_argument(
        "--image", default="384x192", metavar="WxH", help="frame for shapes that see, in pixels (%(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="of each time (%(default)s)")
    parser.add_argument(
        "--draft-ms",
        type=float,
        metavar="MS",
        help="a drafted token on the robot, as this command told it there",
    )
    parser.add_argument(
        "--rtt-ms", type=float, nargs="+", metavar="R", help="to simulate; by default 20, 60 and 120"
    )
    parser.add_argument(
        "--acceptance", type=float, nargs="+", metavar="A", help="imposed; by default 0.7, 0.8 and 0.9"
    )
    parser.add_argument("--tokens", type=int, default=24, metavar="N", help="of an answer (%(default)s)")
    parser.add_argument(
        "--mbit", type=float, default=20.0, metavar="B", help="of the uplink, for the frame (%(default)g)"
    )
    parser.add_argument("--out", default="profile.yaml", metavar="F", help="the profile (%(default)s)")
    parser.add_argument(
        "--json", metavar="F", help="write every time here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    draft_shape, target_shape = shape_named(args.draft), shape_named(args.target)
    if Path(args.out).suffix not in (".yaml", ".yml"):
        raise SpecDecodeError("--out has to end in .yaml, or simulate takes it for the name of a profile")

    from spec_decode_ros.lab.bench.measure import measure
    from spec_decode_ros.lab.bench.measured_profile import (
        Assumed,
        as_json,
        described,
        profile_document,
        profile_text,
    )
    from spec_decode_ros.lab.bench.profiles import load_profile
    from spec_decode_ros.lab.bench.random_model import require_memory

    plan = _plan(args)
    plain = Assumed()
    assumed = Assumed(
        rtts_ms=tuple(args.rtt_ms or plain.rtts_ms),
        mbit=args.mbit,
        acceptances=tuple(args.acceptance or plain.acceptances),
        tokens=args.tokens,
        draft_ms=args.draft_ms,
    )
    console = Console(stderr=args.json == "-", highlight=False, soft_wrap=True)
    for shape in (draft_shape, target_shape):
        require_memory(shape, plan.device, plan.dtype, plan.layers)
    with _threads(args.threads):
        on = _machine_in_words(plan)
        console.print(f"on {on}; random weights; medians (quartiles) in ms", markup=False)
        sides = []
        for shape, exits in ((draft_shape, False), (target_shape, True)):
            with console.status(f"timing {shape.name}"):
                sides.append(measure(shape, plan, exits))
            for line in described(sides[-1]):
                console.print(line, markup=False)
    draft, target = sides
    document = profile_document(draft, target, assumed, on, plan.image)
    _write(Path(args.out), profile_text(document, sides, assumed))
    load_profile(args.out)
    console.print(f"wrote {args.out}: spec-decode simulate --profile {args.out}", markup=False)
    if args.json:
        write_json(
            args.json,
            {"machine": on, "draft": as_json(draft), "target": as_json(target), "profile": document},
        )
    return 0


def _plan(args: argparse.Namespace) -> MeasurementPlan:
    import torch

    from spec_decode_ros.lab.bench.measure import MeasurementPlan

    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", args.image)
    if not size:
        raise SpecDecodeError(
            f"--image is a width and a height in pixels, such as 640x480, not {args.image!r}"
        )
    device = _device(args.device)
    dtype = args.dtype or ("bf16" if device.type == "cuda" else "fp32")
    return MeasurementPlan(
        device,
        getattr(torch, _DTYPES[dtype]),
        prompt_tokens=args.prompt_tokens,
        image=(int(size[1]), int(size[2])),
        layers=args.layers,
        repeats=args.repeats,
    )


def _device(name: str) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SpecDecodeError(
            "there is no usable CUDA GPU here: take --device cpu, with --layers for large shapes"
        )
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of the CPU for a while; 0 changes nothing."""
    import torch

    if not 0 <= count <= 1024:
        raise SpecDecodeError("--threads is from 0 (torch's own choice) to 1024")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine_in_words(plan: MeasurementPlan) -> str:
    import torch

    from spec_decode_ros.lab.bench.machine import machine

    found = machine()
    if plan.device.type == "cuda":
        where = f"{found['accelerator']}, CUDA {torch.version.cuda}"
    else:
        threads = torch.get_num_threads()
        where = f"{found['processor']}, {threads} thread{'s' if threads > 1 else ''}"
    dtype = str(plan.dtype).removeprefix("torch.")
    return f"{where}, {dtype}, torch {found['torch']}, transformers {found['transformers']}"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"cannot write {path}: {error.strerror or error}") from error
