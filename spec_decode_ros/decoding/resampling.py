"""The edge's part of rejection sampling: the distributions it drafted from, and the tokens that it draws itself."""

from __future__ import annotations

from dataclasses import replace

from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import Committed, Sampling, ServerMode
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.rejection import DraftedToken, resample
from spec_decode_ros.decoding.sparse import unpack
from spec_decode_ros.errors import SpecDecodeError


def separately(method: Method) -> Method:
    """The method as it is with rejection sampling: where an edge drafts, the server waits for it.

    Raises SpecDecodeError for a method in which only the server drafts, or in which the network would decide who says
    which token.
    """
    if method.drafts_in_cloud_alone:
        raise SpecDecodeError(
            f"The method {method.name!r} has no rejection sampler, as its draft never leaves the server; use the gumbel "
            "sampler."
        )
    if not (method.server and method.window):
        return method
    if not method.ahead and method.chunk < method.window:
        raise SpecDecodeError(
            f"The method {method.name!r} waits for a verdict and yet sends its draft in parts, so that time would tell "
            "which part is judged; give it a chunk of its whole window, or use the gumbel sampler."
        )
    return replace(method, server=ServerMode.VERIFY_ONLY, early=False, yields=False, branches=0)


class Resampler:
    """The distributions behind the draft as it stands, and the settled token that the cloud does not have yet."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._drafted: dict[int, tuple[float, Distribution]] = {}
        self.unconfirmed: int | None = None
        """The position of that token."""

    def drafted(self, position: int, token: DraftedToken) -> None:
        self._drafted[position] = token.probability, token.distribution

    def probabilities(self, start: int, stop: int) -> tuple[float, ...]:
        """The draft model's probabilities of the draft tokens from `start` to `stop` - 1."""
        return tuple(self._drafted[position][0] for position in range(start, stop))

    def received(self, message: Committed) -> None:
        """Note how far the cloud has the tokens that were settled here."""
        if self.unconfirmed is not None and message.position + len(message.tokens) > self.unconfirmed:
            self.unconfirmed = None

    def settle(self, position: int, packed: bytes) -> int:
        """The token in the place of the rejected one at `position`, at which there is a draft token.

        Raises SpecDecodeError if `packed` is no distribution, or none that could have rejected anything.
        """
        token = resample(unpack(packed), self._drafted[position][1], position, self._sampling)
        self.unconfirmed = position
        self._drafted = {place: drafted for place, drafted in self._drafted.items() if place > position}
        return token
