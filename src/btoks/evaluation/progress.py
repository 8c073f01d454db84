"""How far a benchmark is and how long it will take: counted in items, guessed where a data set is still to be read."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Progress:
    """Items done and left over all data sets; what came from a cache says nothing about speed.

    `share` is the number of processes that work at the same time, each of which sees only its own part.
    """

    def __init__(self, expected: Mapping[str, int], *, share: int = 1) -> None:
        self.expected, self.share = dict(expected), share
        self.names = list(expected)
        self.place = 0
        self.done = self.fresh = 0
        self.began = time.monotonic()
        self.seconds = 0.0

    def begin(self, name: str, count: int) -> None:
        """A data set has been read and holds so many items."""
        self.expected[name] = count
        self.place = self.names.index(name) + 1
        self.done = sum(self.expected[each] for each in self.names[: self.place - 1])
        self.began = time.monotonic()

    def step(self, count: int, cached: bool) -> None:
        """So many items more have been embedded, or found in the cache."""
        self.done += count * self.share
        if not cached:
            self.fresh += count * self.share
            self.seconds += time.monotonic() - self.began
        self.began = time.monotonic()

    def left(self) -> float | None:
        """Seconds still to go; None while nothing has been embedded."""
        if not self.fresh:
            return None
        return max(sum(self.expected.values()) - self.done, 0) * self.seconds / self.fresh

    def line(self) -> str:
        """What to show of it.

        >>> Progress({"VOC2007": 1020}).line()
        '0 of 1 data sets, 0 of 1,020 items'
        """
        left = self.left()
        eta = "" if left is None else f", {clock(left)} left"
        return (
            f"{self.place} of {len(self.names)} data sets, {self.done:,} of {sum(self.expected.values()):,} items{eta}"
        )


def clock(seconds: float) -> str:
    """A time in its two largest units.

    >>> clock(4000), clock(75), clock(9)
    ('1 h 06 min', '1 min 15 s', '9 s')
    """
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
