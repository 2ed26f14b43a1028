"""The settings of a verifier service, for the command line, the environment, files and ROS alike."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair_config import DEFAULT_PAIR
from spec_decode_ros.settings import check_settings, setting, settings_of
from spec_decode_ros.transport.endpoint import EndpointError, parse_address, parse_endpoint
from spec_decode_ros.transport.server import LOOPBACK

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_DEVICE = re.compile(r"(auto|cpu|mps|cuda(:\d+)?)?")
_A_DAY_S = 86_400.0


@dataclass(frozen=True)
class ServiceConfig:
    """The settings of a verifier service; see `SETTINGS`.

    Raises:
        SpecDecodeError: a value cannot be used, or two do not go together; the sentence says which and what can.
    """

    pair: str = setting(DEFAULT_PAIR, "model pair, by name or as a .yaml file", shape="PAIR")
    bind: str = setting(
        LOOPBACK,
        "where robots connect, as tcp://ADDRESS:PORT; by default a free port that only this machine reaches",
        shape="URL",
    )
    keys: str = setting(
        "",
        "folder of keys: let in only robots with keys, and encrypt; made on first use; empty: no keys",
        shape="DIR",
    )
    insecure: bool = setting(
        False, "serve other machines without keys: anybody who reaches the port can use it, unencrypted"
    )
    device: str = setting("", "auto, cpu, mps, cuda or cuda:N; empty: what the pair says", shape="NAME")
    dtype: str = setting(
        "",
        "precision of the target; empty: what the pair says",
        choices=("", "auto", "float32", "bfloat16", "float16"),
    )
    grammar: str = setting(
        "",
        "what answers are constrained to: action, none, or a file with EBNF or, named .json, a JSON schema; empty: what the "
        "pair says",
        shape="FILE",
    )
    threads: int = setting(
        -1, "CPU threads of the target; 0 leaves the choice to torch, -1 to the pair", -1, 1024
    )
    max_sessions: int = setting(
        64, "unfinished actions at once; further ones are refused, with a time to ask again", 1, 100_000
    )
    memory_mb: float = setting(0.0, "megabytes for the caches of unfinished actions; 0 sets no limit", 0, 1e8)
    session_tokens: int = setting(
        2048,
        "tokens of prompt, answer and draft that an action may have; their memory is reserved at the start",
        1,
        10_000_000,
    )
    actions_per_second: float = setting(0.0, "that one robot may begin on average; 0 for any number", 0, 1e4)
    expire_s: float = setting(
        30.0, "seconds without a message after which an action is dropped", 0.1, _A_DAY_S
    )
    metrics: str = setting(
        "",
        "where metrics and health are over HTTP; PORT alone for this machine only; empty: nowhere",
        shape="HOST:PORT",
    )
    stuck_s: float = setting(
        60.0, "a model that works on one pass for more seconds than this is reported as stuck", 1, _A_DAY_S
    )
    drain_s: float = setting(
        10.0, "seconds that running actions get to finish when the service ends", 0, 3600
    )
    log_format: str = setting("text", "lines for people, or one JSON object a line", choices=LOG_FORMATS)
    log_level: str = setting("info", "the least important messages to log", choices=LOG_LEVELS)

    def __post_init__(self) -> None:
        check_settings(self)
        with _named("bind"):
            endpoint = parse_endpoint(self.bind, listening=True)
        if not _DEVICE.fullmatch(self.device):
            raise SpecDecodeError(
                f"device must be auto, cpu, mps, cuda or cuda:<number>, not {self.device!r}."
            )
        if not (self.keys or self.insecure or endpoint.loopback):
            raise SpecDecodeError(
                f"{endpoint} can be reached from other machines: name a folder of keys (--keys DIR), or say --insecure "
                "if only you can reach this network."
            )
        self.metrics_address  # noqa: B018  checks it

    def sessions(self, bytes_per_token: int) -> int:
        """How many actions fit into the memory, if one token takes `bytes_per_token`; 0 for not known.

        Raises:
            SpecDecodeError: not even one does.
        """
        if not (self.memory_mb and bytes_per_token):
            return self.max_sessions
        session_mb = bytes_per_token * self.session_tokens / 1e6
        fit = int(self.memory_mb / session_mb)
        if not fit:
            raise SpecDecodeError(
                f"The caches of one action of {self.session_tokens} tokens take {session_mb:.1f} MB: raise memory_mb above "
                f"{self.memory_mb:g}, or lower session_tokens."
            )
        return min(self.max_sessions, fit)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of metrics and health; port 0 is any free one. None for neither."""
        if not self.metrics:
            return None
        with _named("metrics"):
            return parse_address(self.metrics)


SETTINGS = settings_of(ServiceConfig)
"""All settings by name, in the order in which help shows them."""


@contextlib.contextmanager
def _named(setting: str) -> Iterator[None]:
    """Say of which setting an error is."""
    try:
        yield
    except EndpointError as error:
        raise SpecDecodeError(f"{setting}: {error}") from None
