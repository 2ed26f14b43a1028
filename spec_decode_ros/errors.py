"""The one base class of errors that are shown to users."""

from __future__ import annotations


class SpecDecodeError(ValueError):
    """Something the user can mend; the message is one sentence that says how."""
