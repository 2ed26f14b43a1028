"""Early exits: predictions of the target's choices in the middle of its pass.

A small adapter behind a decoder layer turns that layer's hidden states into such that the target's own final norm and
output head can read, as in Venkatesha, Kundu and Panda, *Fast and cost-effective speculative edge-cloud decoding
with early exits* (arXiv 2505.21594). The adapters are attached from outside, are trained with the target frozen
(`spec-decode train-exits`) and only predict: the outcome of the pass does not depend on them.

They are kept in one safetensors file beside the target's weights. Layers are counted from 0; exit L comes after
layer L has run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.hf_model import ChoiceRequest, HfModel
from spec_decode_ros.models.interfaces import ExitFigures, OnEarly
from spec_decode_ros.models.structured_outputs import Bitmask, apply_bitmask
from spec_decode_ros.models.weight_mark import has_mark, weight_mark

FORMAT, VERSION = "spec_decode_ros exits", "1"

_HINT = "train exits for this target with `spec-decode train-exits`, or remove the file."


class ExitsError(SpecDecodeError):
    """A file of early exits that cannot be used with a target."""


class ExitAdapter(nn.Module):
    """Hidden states (..., width) of a layer to such as the last layer would give: a residual step through `inner` units.

    A new one changes nothing.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(width))
        self.down = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        seen = F.rms_norm(hidden, self.norm.shape, self.norm, 1e-6)
        return hidden + self.up(F.silu(self.down(seen)))


class ExitListener(NamedTuple):
    """A callback for the predictions of an exit at answer `positions`, among the tokens of `bitmask` if there is one."""

    positions: Sequence[int]
    sampling: Sampling
    on_early: OnEarly
    bitmask: Bitmask | None = None


class Exits:
    """The exits of one loaded target.

    Args:
        model: the target; the adapters are moved to its device and precision.
        adapters: one for each of `figures`.
        figures: in the order of their layers.

    Raises:
        ExitsError: they do not fit the target.
    """

    def __init__(
        self, model: HfModel, adapters: Sequence[ExitAdapter] = (), figures: Sequence[ExitFigures] = ()
    ) -> None:
        layers = [exit.layer for exit in figures]
        if layers != sorted(set(layers)) or len(adapters) != len(figures):
            raise ExitsError("each exit must have a layer of its own, in rising order")
        depth, width = model.layer_count, model.embedding.weight.shape[1]
        if layers and layers[-1] >= depth:
            raise ExitsError(f"there is an exit after layer {layers[-1]}, but the target ends at {depth - 1}")
        for adapter in adapters:
            if adapter.norm.shape != (width,):
                raise ExitsError(f"the exits are {len(adapter.norm)} wide, but the target {width}")
        self.figures = tuple(figures)
        self._model = model
        dtype = model.model.dtype
        moved = [adapter.to(model.device, dtype).eval().requires_grad_(False) for adapter in adapters]
        self._adapters = dict(zip(layers, moved, strict=True))
        self._norm = model.final_norm

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that exits come after, in the order in which a pass comes through."""
        return tuple(self._adapters)

    @torch.inference_mode()
    def logits(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (K, vocabulary) of the exit after `layer`, for rows (K, width) of hidden states."""
        return self._model.logits(self._norm(self._adapters[layer](hidden)))

    @property
    def drafting(self) -> ExitFigures:
        """The exit that is worth most for drafting with the layers up to there: cheap, and often right."""
        depth = self._model.layer_count

        def speed(exit: ExitFigures, count: int) -> float:
            """Expected tokens for the time of one pass, with drafts of `count` tokens."""
            expected = sum(exit.agreement**i for i in range(count + 1))
            return expected / (1 + count * (exit.layer + 1) / depth)

        return max(self.figures, key=lambda exit: max(speed(exit, count) for count in range(1, 17)))

    def choose(
        self,
        layer: int,
        hidden: torch.Tensor,
        position: int,
        bitmask: Bitmask | None,
        sampling: Sampling,
    ) -> int | None:
        """The choice for one answer position from hidden states (1, width), among the tokens of `bitmask` if there is one.

        None if the hidden states make no sense.
        """
        logits = self.logits(layer, hidden)
        if not bool(logits.isfinite().all()):
            return None
        if bitmask is not None:
            apply_bitmask(logits, bitmask)
        return self._model.choose(logits, [position], sampling)[0]

    @torch.inference_mode()
    def notify(self, layer: int, hidden: torch.Tensor, listeners: Sequence[ExitListener]) -> None:
        """Call each listener with the predictions of the exit after `layer`; `hidden` (K, width) has the rows of all.

        They are chosen as the pass will choose. The confidence in a choice is its probability in the exit's own
        distribution over what the grammar allows, at temperature 1 and before any cut.
        """
        logits = self.logits(layer, hidden)
        finite = logits.isfinite().all(dim=-1).tolist()
        bitmasks = [listener.bitmask for listener in listeners if listener.bitmask is not None]
        if bitmasks:  # of all listeners, as they hear of the same model
            apply_bitmask(logits, np.concatenate(bitmasks))
        requests, asked, start = [], [], 0
        for listener in listeners:
            rows = range(start, start + len(listener.positions))
            start = rows.stop
            if all(finite[rows.start : rows.stop]):  # an exit may stay silent, but never break the pass
                requests.append(ChoiceRequest(rows, listener.positions, listener.sampling))
                asked.append(listener)
        choices = [
            chosen for chosen in self._model.choose_many(logits, requests) if isinstance(chosen, tuple)
        ]
        kept = [row for request in requests for row in request.rows]
        tokens = [token for chosen in choices for token in chosen]
        confidences = iter(logits[kept].float().softmax(-1)[range(len(kept)), tokens].tolist())
        for listener, chosen in zip(asked, choices, strict=True):
            listener.on_early(chosen, tuple(next(confidences) for _ in chosen))


def save_exits(
    path: Path,
    model: HfModel,
    adapters: Sequence[ExitAdapter],
    figures: Sequence[ExitFigures],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the exits of `model` to one file."""
    tensors = {
        f"{exit.layer}.{name}": weight.detach().to("cpu", dtype).contiguous()
        for exit, adapter in zip(figures, adapters, strict=True)
        for name, weight in adapter.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "layers": ",".join(str(exit.layer) for exit in figures),
        "dtype": str(dtype).removeprefix("torch."),
        "exits": json.dumps([asdict(exit) for exit in figures]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by safetensors' own save_file, whose files only their owner can read.
    path.write_bytes(save({**tensors, "target": weight_mark(model.head.weight)}, metadata))


def load_exits(path: Path, model: HfModel) -> Exits:
    """The exits in a file that :func:`save_exits` wrote for `model`. Raises ExitsError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        figures = _figures(metadata)
        mark = tensors.pop("target", torch.empty(0))
        exits = Exits(model, _adapters(tensors, figures), figures)
        if not has_mark(model.head.weight, mark):
            raise ExitsError("they were trained for another target")
    except (OSError, SafetensorError) as error:
        raise ExitsError(f"The early exits {path} cannot be read ({error}): {_HINT}") from error
    except SpecDecodeError as error:
        raise ExitsError(f"The early exits {path} cannot be used ({error}): {_HINT}") from error
    return exits


def _figures(metadata: Mapping[str, str]) -> tuple[ExitFigures, ...]:
    if metadata.get("format") != FORMAT:
        raise ExitsError("the file holds something else")
    if metadata.get("version") != VERSION:
        raise ExitsError(f"format version {metadata.get('version')} where this program knows {VERSION}")
    try:
        figures = tuple(ExitFigures(**record) for record in json.loads(metadata["exits"]))
    except SpecDecodeError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ExitsError("its description is damaged") from error
    if metadata.get("layers") != ",".join(str(exit.layer) for exit in figures):
        raise ExitsError("its description contradicts itself")
    return figures


def _adapters(tensors: Mapping[str, torch.Tensor], figures: Sequence[ExitFigures]) -> list[ExitAdapter]:
    wanted = {f"{exit.layer}.{name}" for exit in figures for name in ("norm", "down.weight", "up.weight")}
    if wanted != tensors.keys():
        raise ExitsError("its weights are not those that it describes")
    adapters = []
    for exit in figures:
        norm, down, up = (tensors[f"{exit.layer}.{name}"] for name in ("norm", "down.weight", "up.weight"))
        if down.dim() != 2 or norm.shape != down.shape[1:] or up.shape != down.shape[::-1]:
            raise ExitsError(f"the weights of the exit after layer {exit.layer} do not fit each other")
        if not all(bool(weight.isfinite().all()) for weight in (norm, down, up)):
            raise ExitsError(f"the weights of the exit after layer {exit.layer} are not finite")
        adapter = ExitAdapter(down.shape[1], down.shape[0])
        adapter.load_state_dict({"norm": norm.float(), "down.weight": down.float(), "up.weight": up.float()})
        adapters.append(adapter)
    return adapters
