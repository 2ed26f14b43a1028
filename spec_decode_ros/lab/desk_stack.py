"""Draft model, emulated network and verifier on this machine, as a robot would have them, as one context."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from spec_decode_ros.decoding.controller import Objective
from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.models.grammar import grammar_of, with_grammar
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import PairConfig, load_pair_config, resolve_location
from spec_decode_ros.models.warmup import be_responsive, warm_up
from spec_decode_ros.server.process import spawn_server
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.endpoint import parse_endpoints
from spec_decode_ros.transport.keys import robot_keys


@dataclass(frozen=True)
class DeskStackOptions:
    """How actions are decoded.

    Attributes:
        pair: by name or as a .yaml file.
        endpoint: of a verifier that runs, or several by commas; without one a verifier is started.
        keys: folder of the robot's keys, for a verifier that runs.
        target_fingerprint: of the target weights that the verifier must have; see :class:`Client`.
        rtt_ms: round-trip time of an emulated network; 0 for none.
        max_tokens: longest answer; None for what the pair says.
        deadline_s: of an action.
        grammar: what answers are constrained to, by both sides; see :func:`with_grammar`.
    """

    pair: str
    method: str = "auto"
    objective: Objective = "latency"
    endpoint: str | None = None
    keys: str | None = None
    target_fingerprint: str = ""
    rtt_ms: float = 0.0
    max_tokens: int | None = None
    deadline_s: float = 30.0
    grammar: str = ""

    def __post_init__(self) -> None:
        if self.keys and not self.endpoint:
            raise SpecDecodeError("--keys is for a server that runs already; name it with --endpoint.")
        if self.endpoint is not None:
            parse_endpoints(self.endpoint)


class DeskStack(NamedTuple):
    """What runs: the pair's configuration, its draft model, and the runtime that decodes with it."""

    config: PairConfig
    drafter: Drafter
    runtime: EdgeRuntime


@contextlib.contextmanager
def desk_stack(options: DeskStackOptions) -> Iterator[DeskStack]:
    """Start everything, and end it with the context.

    Raises:
        SpecDecodeError: something is not there, or does not start.
    """
    method = method_named(options.method)
    config = with_grammar(load_pair_config(options.pair), options.grammar)
    grammar_of(config, takes_images=False)
    resolve_location(config.draft, config.folder)  # fails at once, where loading would take seconds first
    if method.uses_cloud and not options.endpoint:
        resolve_location(config.target, config.folder)
    keys = robot_keys(options.keys) if options.keys else None
    profile = LinkProfile(rtt_ms=options.rtt_ms)
    with contextlib.ExitStack() as stack:
        endpoint = options.endpoint
        with ThreadPoolExecutor(1) as pool:  # the verifier's process starts while the draft model is loaded
            loading = pool.submit(_warm_drafter, config)
            if method.uses_cloud and not endpoint:
                more = ("--grammar", options.grammar) if options.grammar else ()
                endpoint = stack.enter_context(spawn_server(options.pair, more=more))
            drafter = loading.result()
        be_responsive()
        client = None
        if method.uses_cloud:
            if profile.rtt_ms:
                endpoint = stack.enter_context(link_process(endpoint or "", profile))
            client = stack.enter_context(
                Client(
                    endpoint or "",
                    config.name,
                    drafter.vocabulary,
                    keys,
                    target_fingerprint=options.target_fingerprint,
                    grammar=drafter.grammar,
                )
            )
            client.wait_ready()
        # Without fallback: a result must not silently mix the method asked for with the draft model alone.
        runtime = EdgeRuntime(
            drafter,
            client,
            method,
            deadline_s=options.deadline_s,
            max_tokens=options.max_tokens or config.max_tokens,
            fallback=False,
            objective=options.objective,
        )
        yield DeskStack(config, drafter, stack.enter_context(runtime))


def _warm_drafter(config: PairConfig) -> Drafter:
    drafter = load_drafter(config)
    warm_up(drafter)
    return drafter
