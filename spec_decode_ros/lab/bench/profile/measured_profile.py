"""Turns measured times into a profile for virtual time: a YAML file that says what was measured and what was assumed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Spread
from spec_decode_ros.lab.bench.grid import World
from spec_decode_ros.lab.bench.profile.measure import EXIT_WIDTH, SideTimes

_JPEG_BYTES_PER_PIXEL = 0.2
"""Of a camera frame at quality 85, about."""

_NOT_A_LINE = 0.15
"""Relative error from which a profile warns of its own step_ms and per_token_ms."""


@dataclass(frozen=True)
class Assumed:
    """What a profile needs in addition to the measured times.

    `mbit` is the bandwidth of the uplink, `tokens` the length of an answer, and `draft_ms` the time of a draft token as
    measured on the robot; None takes the time measured here.
    """

    rtts_ms: tuple[float, ...] = (20.0, 60.0, 120.0)
    mbit: float = 20.0
    acceptances: tuple[float, ...] = (0.7, 0.8, 0.9)
    tokens: int = 24
    draft_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.rtts_ms or min(self.rtts_ms) < 0 or self.mbit <= 0 or self.tokens < 1:
            raise SpecDecodeError(
                "round-trip times are not below 0, a bandwidth is above 0, an answer has a token"
            )
        if not self.acceptances or not all(0 <= share <= 1 for share in self.acceptances):
            raise SpecDecodeError(f"acceptances are from 0 to 1, not {self.acceptances}")
        if self.draft_ms is not None and self.draft_ms <= 0:
            raise SpecDecodeError("--draft-ms is above 0")


def profile_document(
    draft: SideTimes, target: SideTimes, assumed: Assumed, on: str, image: tuple[int, int]
) -> dict[str, Any]:
    """The profile as `load_profile` reads it; `on` names device, precision and versions."""
    line = target.line()
    frame_bytes = _JPEG_BYTES_PER_PIXEL * image[0] * image[1] if target.shape.tower else 0.0
    exit = target.exits["in the pass"]
    world = {
        "tokens": assumed.tokens,
        "prefill_ms": target.prefill.median,
        "step_ms": line.step_ms,
        "per_token_ms": line.per_token_ms,
        "prepare_ms": target.prepare.median,
        "upload_ms": frame_bytes * 8 / (assumed.mbit * 1e3),
        "exit_at": exit.fraction,
        "exit_sure": World.exit_sure,
        "exit_right": World.exit_right,
        "server_draft_token_ms": draft.passes[1].median,
        "server_draft_prefill_ms": draft.prefill.median,
        "prompt_tokens": target.prompt_tokens,
    }
    given = "" if assumed.draft_ms is None else "; draft time given, not measured here"
    return {
        "source": f"measured on {on}: {_what(draft)} drafts, {_what(target)} verifies; random weights, acceptance imposed"
        + given,
        "rtts_ms": list(assumed.rtts_ms),
        "acceptances": list(assumed.acceptances),
        "draft_ms": _rounded(draft.passes[1].median if assumed.draft_ms is None else assumed.draft_ms),
        "world": {name: _rounded(value) for name, value in world.items()},
    }


def profile_text(document: dict[str, Any], sides: Sequence[SideTimes], assumed: Assumed) -> str:
    """The YAML file, with all measured times in its comments."""
    measured = [line for side in sides for line in described(side)]
    notes = [
        "Made by `spec-decode profile`: the architectures are the published ones at their real sizes, the weights are "
        "random. Measured: draft_ms (a pass of the draft model over one token), prefill_ms, step_ms and per_token_ms (a "
        "line through the passes), prepare_ms (reading the frame, and the vision tower), exit_at, server_draft_token_ms and "
        "server_draft_prefill_ms (the draft model on the server).",
        "Imposed, for random weights agree in nothing: acceptances, exit_sure and exit_right. Assumed: rtts_ms, tokens, "
        f"and upload_ms, a frame of {_JPEG_BYTES_PER_PIXEL:g} bytes a pixel at {assumed.mbit:g} Mbit/s.",
    ]
    if assumed.draft_ms is None:
        notes.append("The draft model was timed on the same device as the target; a robot has a slower one.")
    else:
        notes.append("draft_ms was given on the command line.")
    off = sides[-1].line().off
    if off > _NOT_A_LINE:
        notes.append(
            f"CAUTION: the target's passes are not on a line, which is off by up to {off:.0%}: see them below before "
            "comparing methods that verify several tokens with the cloud alone."
        )
    if any(side.extrapolated for side in sides):
        notes.append(
            "EXTRAPOLATED: a part of the layers, and of the vision tower's blocks, was measured and multiplied; final norm, "
            "output head and the choice of the token were measured apart and added."
        )
    wrapped = [line for note in notes for line in textwrap.wrap(note, 110)]
    comments = [*wrapped, "Medians (quartiles) in ms:", *(f"  {line}" for line in measured)]
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in comments) + body


def described(side: SideTimes) -> list[str]:
    """The times of a model as lines of text."""
    line = side.line()
    return [
        f"{_what(side)}, {side.parameters / 1e6:,.1f} million parameters, prompt of {side.prompt_tokens} tokens",
        f"  prepare {_shown(side.prepare)}, prefill {_shown(side.prefill)}",
        "  pass over " + ", ".join(f"{width}: {_shown(spread)}" for width, spread in side.passes.items()),
        f"  as a line: {_ms(line.step_ms)} + {_ms(line.per_token_ms)} for each further token, off by {line.off:.0%} at most",
        *(
            f"  pass over {EXIT_WIDTH} with an early exit in the middle, run {way}: {_shown(exit.passing)}, known after "
            f"{_shown(exit.known)}"
            for way, exit in side.exits.items()
        ),
    ]


def as_json(side: SideTimes) -> dict[str, Any]:
    """The times of a model, for JSON."""
    line = side.line()
    return {
        "shape": side.shape.name,
        "parameters": side.parameters,
        "layers": side.shape.layers,
        "layers_measured": side.layers,
        "extrapolated": side.extrapolated,
        "weights": "random",
        "prompt_tokens": side.prompt_tokens,
        "prepare_ms": side.prepare.as_dict(),
        "prefill_ms": side.prefill.as_dict(),
        "passes_ms": {str(width): spread.as_dict() for width, spread in side.passes.items()},
        "line": {"step_ms": line.step_ms, "per_token_ms": line.per_token_ms, "off": line.off},
        "exits": {
            way: {"pass_ms": exit.passing.as_dict(), "known_ms": exit.known.as_dict(), "at": exit.fraction}
            for way, exit in side.exits.items()
        },
    }


def _what(side: SideTimes) -> str:
    part = f" ({side.layers} of {side.shape.layers} layers, extrapolated)" if side.extrapolated else ""
    return side.shape.name + part


def _shown(spread: Spread) -> str:
    return f"{_ms(spread.median)} ({_ms(spread.low)}–{_ms(spread.high)})"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")
