"""The one error type a user sees: `item: reason; way out`, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BtoksError(Exception):
    """An error that is the input's or the setting's, not the program's: one line, no traceback needed.

    >>> str(BtoksError("holiday.mp4", "no video stream", "pass a file with one, or skip it with on_error='skip'"))
    "holiday.mp4: no video stream; pass a file with one, or skip it with on_error='skip'"
    """

    def __init__(self, item: str, reason: str, way_out: str) -> None:
        self.item, self.reason, self.way_out = item, reason, way_out
        super().__init__(item, reason, way_out)

    def __str__(self) -> str:
        return " ".join(f"{self.item}: {self.reason}; {self.way_out}".split())


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The way out for a mistyped name: its nearest known name, or all of them.

    >>> did_you_mean("maen", ["mean", "last"])
    "did you mean 'mean'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"
