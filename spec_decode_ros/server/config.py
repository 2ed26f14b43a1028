"""What a verifier service is told: one set of settings, for the command line, the environment, files and ROS alike."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import DEFAULT_PAIR
from spec_decode_ros.server.admission import ServiceLimits
from spec_decode_ros.transport.secured_router import is_loopback
from spec_decode_ros.transport.server import LOOPBACK

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_DEVICE = re.compile(r"(auto|cpu|mps|cuda(:\d+)?)?")
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]*):)?(?P<port>\d{1,5})")
_THIS_MACHINE = "127.0.0.1"
_A_DAY_S = 86_400.0


Value = bool | int | float | str


@dataclass(frozen=True)
class ServiceSetting:
    """One setting: what it means, and which values it takes; its type is that of the default.

    `shape` is how help shows a value.
    """

    name: str
    default: Value
    meaning: str
    shape: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> Value:
        """The value in its type. Raises SpecDecodeError if it is of another, or out of its range."""
        wanted = type(self.default)
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is str and type(value) is int:  # `metrics: 9464` in a file
            value = str(value)
        if type(value) is not wanted:
            raise SpecDecodeError(f"{self.name} must be {_KINDS[wanted]}, not {value!r}.")
        assert isinstance(value, bool | int | float | str)
        if self.choices and value not in self.choices:
            known = ", ".join(choice or "empty" for choice in self.choices)
            raise SpecDecodeError(f"{self.name} must be one of {known}, not {value!r}.")
        if self.low is not None and self.high is not None:
            assert isinstance(value, int | float)
            if not (math.isfinite(value) and self.low <= value <= self.high):
                raise SpecDecodeError(
                    f"{self.name} must be from {self.low:g} to {self.high:g}, not {value:g}."
                )
        return value

    def read(self, text: str) -> Value:
        """The value that a text says. Raises SpecDecodeError."""
        wanted = type(self.default)
        if wanted is str:
            return self.check(text)
        try:
            return self.check(_TRUTH[text.strip().lower()] if wanted is bool else wanted(text))
        except (KeyError, ValueError) as error:
            if isinstance(error, SpecDecodeError):
                raise
            raise SpecDecodeError(f"{self.name} must be {_KINDS[wanted]}, not {text!r}.") from None


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_LIMITS = ServiceLimits()


def _setting(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    shape: str = "",
) -> Any:
    about = {"meaning": meaning, "low": low, "high": high, "choices": choices, "shape": shape}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class ServiceConfig:
    """The settings of a verifier service; `SETTINGS` says what each means.

    Raises:
        SpecDecodeError: a value cannot be used, or two do not go together; the sentence names it and says what does.
    """

    pair: str = _setting(DEFAULT_PAIR, "model pair, by name or as a .yaml file", shape="PAIR")
    bind: str = _setting(
        LOOPBACK,
        "where robots connect, as tcp://ADDRESS:PORT; by default a free port that only this machine reaches",
        shape="URL",
    )
    keys: str = _setting(
        "",
        "folder of keys: let in only robots with keys, and encrypt; made on first use; empty: no keys",
        shape="DIR",
    )
    insecure: bool = _setting(
        False, "serve other machines without keys: whoever reaches the port may use it, unencrypted"
    )
    device: str = _setting("", "auto, cpu, mps, cuda or cuda:N; empty: what the pair says", shape="NAME")
    dtype: str = _setting(
        "",
        "precision of the target; empty: what the pair says",
        choices=("", "auto", "float32", "bfloat16", "float16"),
    )
    threads: int = _setting(
        -1, "CPU threads of the target; 0 leaves the choice to torch, -1 to the pair", -1, 1024
    )
    max_sessions: int = _setting(
        _LIMITS.max_sessions, "unfinished actions at once; further ones are told to come back", 1, 100_000
    )
    memory_mb: float = _setting(
        _LIMITS.memory_mb, "megabytes for the caches of unfinished actions; 0 sets no limit", 0, 1e8
    )
    session_tokens: int = _setting(
        _LIMITS.session_tokens,
        "tokens of prompt, answer and draft that an action may have; their memory is reserved at the start",
        1,
        10_000_000,
    )
    actions_per_second: float = _setting(
        _LIMITS.actions_per_second, "that one robot may begin on average; 0 for any number", 0, 1e4
    )
    expire_s: float = _setting(
        _LIMITS.expire_s, "an action of which nothing was heard for so many seconds is dropped", 0.1, _A_DAY_S
    )
    metrics: str = _setting(
        "",
        "where metrics and health are over HTTP; PORT alone for this machine only; empty: nowhere",
        shape="HOST:PORT",
    )
    stuck_s: float = _setting(
        60.0, "a model that works on one pass for more seconds than this is reported as stuck", 1, _A_DAY_S
    )
    drain_s: float = _setting(
        10.0, "seconds that running actions have to finish in when the service is told to end", 0, 3600
    )
    log_format: str = _setting("text", "lines for people, or one JSON object a line", choices=LOG_FORMATS)
    log_level: str = _setting("info", "the least important messages to log", choices=LOG_LEVELS)

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))
        if urlsplit(self.bind).scheme not in ("tcp", "ipc"):
            raise SpecDecodeError(f"bind must be tcp://ADDRESS:PORT, not {self.bind!r}.")
        if not _DEVICE.fullmatch(self.device):
            raise SpecDecodeError(
                f"device must be auto, cpu, mps, cuda or cuda:<number>, not {self.device!r}."
            )
        if not (self.keys or self.insecure or is_loopback(self.bind)):
            raise SpecDecodeError(
                f"{self.bind} can be reached from other machines: name a folder of keys (--keys DIR), or say --insecure "
                "if only you can reach this network."
            )
        self.metrics_address  # noqa: B018  checks it

    @property
    def limits(self) -> ServiceLimits:
        """What the server takes on."""
        return ServiceLimits(
            self.max_sessions, self.memory_mb, self.session_tokens, self.actions_per_second, self.expire_s
        )

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of metrics and health; port 0 is any free one. None for neither."""
        if not self.metrics:
            return None
        found = _ADDRESS.fullmatch(self.metrics)
        if not found or int(found["port"]) > 65535:
            raise SpecDecodeError(f"metrics must be HOST:PORT such as 127.0.0.1:9464, not {self.metrics!r}.")
        return (found["host"] or _THIS_MACHINE).strip("[]"), int(found["port"])


SETTINGS: dict[str, ServiceSetting] = {
    entry.name: ServiceSetting(entry.name, entry.default, **entry.metadata)  # type: ignore[arg-type]
    for entry in fields(ServiceConfig)
}
"""All settings by name, in the order in which people are told of them."""
