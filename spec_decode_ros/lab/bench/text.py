"""The text suite: a language model's answers by every method, over emulated links.

Prompts are of templates that no draft model was distilled on (`text/templates.py`). Edge and cloud run on cores of
their own, the cloud in a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.edge.runtime import ActionResult, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import MethodComparison, Sample
from spec_decode_ros.lab.text.prompts import held_out_prompts
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client

PAIR = "smollm2"
PROMPTS = 12
TOKENS_PER_S = "tokens_per_s"
"""Answer tokens by the time to the verified answer: one more number of each result, beside those of an action."""

WARM_UP = 2
DEADLINE_S = 300.0
SEED = 5000  # far from the seeds that drafts are measured with while they are made


class TextComparison(MethodComparison):
    """Results by method, one for each prompt."""

    def as_dict(self) -> dict[str, dict[str, dict[str, float] | None]]:
        """For JSON: method, number, then median and quartiles; with tokens per second, and without robots per server."""
        table = super().as_dict()
        for method, row in table.items():
            del row["capacity"]
            spread = self.spread(method, TOKENS_PER_S)
            row[TOKENS_PER_S] = spread.as_dict() if spread else None
        return table


@dataclass(frozen=True)
class Texts:
    """What the suite decodes.

    Attributes:
        prompts: what is asked.
        max_tokens: longest answer.
        methods: names of methods.
        sampling: how tokens are chosen; each prompt has a seed of its own, from the given one on.
    """

    prompts: tuple[str, ...]
    max_tokens: int = 96
    methods: tuple[str, ...] = tuple(name for name, method in METHODS.items() if method.uses_cloud)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not self.prompts or not self.methods:
            raise SpecDecodeError("the text suite needs at least one prompt and one method")
        if self.max_tokens < 1:
            raise SpecDecodeError(f"an answer has at least one token, not {self.max_tokens}")
        if unknown := sorted(set(self.methods) - METHODS.keys()):
            raise SpecDecodeError(f"there is no method {unknown[0]!r}; choose from {', '.join(METHODS)}")


def texts(count: int = PROMPTS, seed: int = 0) -> tuple[str, ...]:
    """Prompts to measure on."""
    return tuple(held_out_prompts(count, SEED + seed))


def decode_texts(asked: Texts, pair: str) -> Callable[[Drafter, Client], MethodComparison]:
    """What compares through one link: every method, and with `auto` a row `auto (lookup)` with no draft model."""
    lookup = _lookup_alone(pair) if "auto" in asked.methods else None

    def decode(drafter: Drafter, client: Client) -> MethodComparison:
        contestants: dict[str, tuple[Drafter, str]] = {name: (drafter, name) for name in asked.methods}
        if lookup:
            contestants["auto (lookup)"] = (lookup, "auto")
        return compare_texts(asked, contestants, client)

    return decode


def _lookup_alone(pair: str) -> Drafter:
    from spec_decode_ros.models.loading import load_model
    from spec_decode_ros.models.lookup import LookupDrafter
    from spec_decode_ros.models.pair import load_pair_config, resolve_location

    config = load_pair_config(pair)
    location = resolve_location(config.draft, config.folder)
    return LookupDrafter(load_model(config.draft, location, config.chat_template).text)


def compare_texts(
    asked: Texts, contestants: Mapping[str, tuple[Drafter, str]], client: Client
) -> MethodComparison:
    """Decode every prompt by every contestant, a drafter with a method; who goes first changes from prompt to prompt."""
    results: dict[str, list[ActionResult]] = {name: [] for name in contestants}
    with contextlib.ExitStack() as stack:
        runtimes = {
            name: stack.enter_context(
                EdgeRuntime(
                    drafter,
                    client,
                    method,
                    deadline_s=DEADLINE_S,
                    max_tokens=asked.max_tokens,
                    fallback=False,
                )
            )
            for name, (drafter, method) in contestants.items()
        }
        for prompt in held_out_prompts(WARM_UP, SEED - 1):
            for runtime in runtimes.values():
                runtime.act(prompt, sampling=asked.sampling)
        for prompt, names, sampling in _turns(asked, tuple(contestants)):
            for name in names:
                result = runtimes[name].act(prompt, sampling=sampling)
                result.stats[TOKENS_PER_S] = 1000.0 * len(result.tokens) / float(result.stats["ttva_ms"] or 1)
                results[name].append(result)
    return TextComparison([Sample(b"", prompt, None) for prompt in asked.prompts], results)


def _turns(asked: Texts, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str], Sampling]]:
    for count, prompt in enumerate(asked.prompts):
        yield (
            prompt,
            names if count % 2 == 0 else names[::-1],
            replace(asked.sampling, seed=asked.sampling.seed + count),
        )
