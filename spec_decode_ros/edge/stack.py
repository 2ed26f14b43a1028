"""What the robot decodes with: draft model, connection to the verifier, and the runtimes, all from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spec_decode_ros.actions.prompt import PromptStyle
from spec_decode_ros.decoding.controller import OBJECTIVES
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS, method_named
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.warmup import be_responsive, warm_up
from spec_decode_ros.settings import Setting
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.endpoint import parse_endpoints
from spec_decode_ros.transport.keys import robot_keys

DECODING = (
    Setting("method", "auto", "how robot and cloud share the work", choices=tuple(METHODS), fixed=True),
    Setting("objective", "latency", "what the method auto aims at", choices=OBJECTIVES, fixed=True),
    Setting("keys", "", "folder of this robot's keys, if the verifier wants them; empty: none", fixed=True),
    Setting(
        "target_fingerprint",
        "",
        "of the target weights that a verifier must have, as it prints it; empty: of the first one used; any: no matter",
        fixed=True,
    ),
    Setting("device", "", "device of the draft model: cpu, cuda, auto; empty: the pair's", fixed=True),
    Setting("threads", 0, "CPU threads of the draft model; 0: the pair's", 0, 256, fixed=True),
    Setting("temperature", 0.0, "0: greedy; above: seeded sampling", 0.0, 2.0, fixed=True),
    Setting("seed", 0, "seed of the sampling", 0, 2**31 - 1, fixed=True),
)
"""Settings of every stack; its pair, its endpoint, its deadline and what it does without a link differ."""


class EdgeStack:
    """Loads the draft model, warmed up, and connects to the verifier if the method uses one.

    Attributes:
        client: the connection; None where the method needs no verifier.
        runtime: decodes with the method that was asked for.
        alone: decodes with the draft model alone.
        drives_alone: whether ``alone`` may drive the robot while the cloud is gone.
        goals: which objects the pair can be sent to, as its file says.
        style, sampling: how the pair is prompted, and how its tokens are chosen.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        method = method_named(settings["method"])
        pair = load_pair_config(settings["pair"])
        keys = robot_keys(settings["keys"]) if settings["keys"] else None
        if method.uses_cloud:
            parse_endpoints(settings["endpoint"])  # what is wrong is said before the model is loaded
        drafter = load_drafter(pair, settings["device"] or None, settings["threads"] or None)
        warm_up(drafter)
        be_responsive()
        self.pair, self.method = pair.name, method.name
        self.decode, self.eos_ids = drafter.decode, drafter.eos_ids
        self.client: Client | None = None
        if method.uses_cloud:
            self.client = Client(
                settings["endpoint"],
                pair.name,
                drafter.vocabulary,
                keys,
                target_fingerprint=settings["target_fingerprint"],
                grammar=drafter.grammar,
            )
        limits: dict[str, Any] = {"deadline_s": settings["deadline"], "max_tokens": pair.max_tokens}
        self.runtime = EdgeRuntime(
            drafter, self.client, method, fallback=False, objective=settings["objective"], **limits
        )
        self.drives_alone = method.uses_cloud and settings["on_link_loss"] == "draft"
        self.alone = EdgeRuntime(drafter, None, "edge", **limits)
        self.goals, self.style = pair.goals, cast(PromptStyle, pair.prompt)
        self.sampling = Sampling(temperature=settings["temperature"], seed=settings["seed"])

    def cancel(self) -> None:
        """End the action under way, from any thread."""
        self.runtime.cancel()
        self.alone.cancel()

    def close(self) -> None:
        """End the runtimes and the connection."""
        self.runtime.close()
        self.alone.close()
        if self.client is not None:
            self.client.close()
