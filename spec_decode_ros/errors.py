"""The one base class of errors that are shown to users."""

from __future__ import annotations

from spec_decode_ros.printable import printable


class SpecDecodeError(ValueError):
    """Something the user can mend; the message is one sentence that says how, printable whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())
