"""The points that no other beats, and the one to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from btoks.errors import BtoksError
from btoks.tradeoff.measuring import Point, measure
from btoks.tradeoff.reading import Collection, Labels


@dataclass(frozen=True)
class Tradeoff:
    """All points of a collection, those that no other beats in both bytes and quality, and the one to take."""

    rows: int
    dim: int
    points: list[Point]
    front: list[Point]
    recommended: Point
    reached: bool


def front(points: Sequence[Point], rows: int) -> list[Point]:
    """The points that no other beats in a collection of so many vectors: each is better than all that are smaller."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.total(rows), -each.quality, -each.ndcg, each.spec)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def recommend(points: Sequence[Point], rows: int, budget: int | None, min_quality: float) -> tuple[Point, bool]:
    """The smallest point of the front with this quality that fits; or the best that fits, and False."""
    fits = [point for point in points if budget is None or point.total(rows) <= budget]
    if not fits:
        least = min(points, key=lambda point: point.total(rows))
        reason = f"the smallest, {least.spec}, takes {least.total(rows)} bytes for {rows} vectors"
        raise BtoksError(f"budget {budget}", reason, "give more")
    choices = front(fits, rows)
    enough = [point for point in choices if point.quality >= min_quality]
    return (enough[0], True) if enough else (choices[-1], False)


def tradeoff(
    vectors: Any,
    *,
    queries: Any = None,
    labels: Labels | None = None,
    budget: int | None = None,
    min_quality: float = 0.99,
    rows: int | None = None,
    slow: bool = False,
    done: Callable[[], None] = lambda: None,
) -> Tradeoff:
    """Measure everything and choose. `rows` is the size of the collection, by default that of the vectors.

    Without `queries` some vectors are held out and ask. `labels` say what is relevant for each query; quality is then
    the share of the task's nDCG@10 that is kept, else nDCG@10 against the exact order. `slow` adds non-linear reducers.

    >>> found = tradeoff(np.random.default_rng(0).standard_normal((500, 16)))  # doctest: +SKIP
    >>> found.recommended.spec  # doctest: +SKIP
    'rescaled:int8'
    """
    known = vectors if isinstance(vectors, Collection) else Collection(vectors)
    points = measure(known, queries=queries, labels=labels, slow=slow, done=done)
    size = len(known) if rows is None else rows
    recommended, reached = recommend(points, size, budget, min_quality)
    return Tradeoff(size, known.rows_ND.shape[1], points, front(points, size), recommended, reached)


def amount(text: str) -> int:
    """Bytes from a number with a unit.

    >>> amount("2GB"), amount("1.5 MiB")
    (2000000000, 1572864)
    """
    number, unit = text.strip().lower(), 1
    for place, letter in enumerate("kmgt", 1):
        for ending, base in ((f"{letter}ib", 1024), (f"{letter}b", 1000), (letter, 1000)):
            if number.endswith(ending):
                number, unit = number.removesuffix(ending), base**place
                break
    try:
        value = float(number.removesuffix("b")) * unit
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise BtoksError(f"budget {text!r}", "not a size", "give bytes such as 500MB or 2GB")
    return int(value)
