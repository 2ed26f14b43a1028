"""A toy target as a replica's process loads it."""

from __future__ import annotations

import time
from functools import partial

from server.toys import ToyVerifier

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.warmup import UNKNOWN
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.service import Target, VerifierService

PASS_S = 0.03


def load_toy(config: ServiceConfig) -> Target:
    """A target that takes `PASS_S` for a pass, and so some tenths of a second for an action."""
    return Target(ToyVerifier(PASS_S), None, UNKNOWN)


def cannot_load(config: ServiceConfig) -> Target:
    raise SpecDecodeError("the checkpoint is not there")


def load_for_ever(config: ServiceConfig) -> Target:
    time.sleep(600.0)
    return load_toy(config)


serve_toy = partial(VerifierService, ServiceConfig(metrics="127.0.0.1:0"), load=load_toy)
serve_nothing = partial(VerifierService, ServiceConfig(), load=cannot_load)
serve_late = partial(VerifierService, ServiceConfig(), load=load_for_ever)
