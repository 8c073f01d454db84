"""Scores a person can use: how far a cosine stands out among those of queries that have nothing to do with the library.

Cosines of two texts and of a text and a picture lie on different scales, so each kind of item is measured for itself:
    value = (cosine − mean) / deviation − top        score = (1 + x / √(1 + x²)) / 2  with x = value / 2
`mean` and `deviation` are those of unrelated pairs, `top` is what the best hit of an unrelated query reaches. At 0.5 a
hit is as good as the best that a query about absent things would find; below it, the answer is that nothing matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btoks.library.scan import Scan

    Vectors = NDArray[np.float32]

DEFAULT = 0.5
SAMPLE = 8_192
_QUERIES, _FEWEST = 64, 8
_RARE, _HALF = 0.75, 0.5
PHRASES = tuple(
    """a red bicycle leaning against a wall|quarterly revenue of a shipping company|how to change a flat tyre
a cat asleep on a windowsill|the history of the Roman senate|a plate of noodles with vegetables
diagram of a combustion engine|a child blowing out candles|symptoms of vitamin deficiency|skyline of a city at night
terms and conditions of a rental contract|a surfer riding a large wave|the proof of a theorem in algebra
a snowy mountain above a village|instructions for a washing machine|an old man playing chess in a park
chemical formula of a polymer|a crowd at a rock concert|minutes of a council meeting|a bridge over a wide river
weather forecast for the weekend|a horse jumping over a fence|knitting pattern for a scarf|the inside of a cathedral
error message of a database server|a bowl of strawberries|map of an underground railway|two people shaking hands
the life cycle of a frog|a fire engine in front of a house|recipe for bread with yeast|a goalkeeper catching a ball
election results by district|a handwritten letter|a spaceship landing on a planet|prices of used cars
a garden full of tulips|an orchestra tuning its instruments|blood pressure measured by a nurse|a chart with rising bars
a dog running along a beach|poem about the autumn|a logo with a blue circle|a tractor ploughing a field
passport photograph of a woman|how vaccines are tested|fishing boats in a harbour|an empty classroom""".replace(
        "\n", "|"
    ).split("|")
)
"""Queries about things that few libraries hold many of."""


@dataclass(frozen=True)
class Level:
    """What unrelated queries reach on one kind of item."""

    mean: float
    deviation: float
    top: float

    def value(self, cosine: float) -> float:
        """How far a cosine stands out, comparable between kinds."""
        return (cosine - self.mean) / self.deviation - self.top


def score(value: float) -> float:
    """A value as a score in [0, 1]; it never saturates, so that it keeps the order.

    >>> score(0.0), round(score(6.0), 3)
    (0.5, 0.974)
    """
    half = value / 2
    return (1 + half / math.hypot(1, half)) / 2


def of_queries(queries_QD: Vectors, sample: Scan, totals: dict[str, int]) -> dict[str, Level]:
    """The level of each kind for queries of text."""
    return {
        kind: _level(sample.compare(queries_QD, vectors_ND), totals.get(kind, 0), _RARE)
        for kind, (_, vectors_ND) in sample.kinds.items()
    }


def of_items(kind: str, sample: Scan, totals: dict[str, int]) -> dict[str, Level] | None:
    """The level of each kind for queries that are such items themselves; None where there are too few to tell."""
    ids, vectors_ND = sample.kinds.get(kind, ([], None))
    if vectors_ND is None or len(ids) < _FEWEST:
        return None
    chosen = np.unique(np.linspace(0, len(ids) - 1, _QUERIES).astype(int))
    levels = {}
    for other, (_, others_ND) in sample.kinds.items():
        scores_QN = sample.compare(vectors_ND[chosen], others_ND)
        if other == kind:  # an item says nothing about how near unrelated ones are to it
            scores_QN[np.arange(len(chosen)), chosen] = np.nan
        levels[other] = _level(scores_QN, totals.get(other, 0), _HALF)
    return levels


def _level(scores_QN: Any, total: int, quantile: float) -> Level:
    mean, deviation = float(np.nanmean(scores_QN)), max(float(np.nanstd(scores_QN)), 1e-6)
    best_Q = (np.nanmax(scores_QN, axis=1) - mean) / deviation
    # The best of more items is higher: as for normal values, by the root of the logarithm.
    more = _reach(total) - _reach(scores_QN.shape[1])
    return Level(mean, deviation, float(np.quantile(best_Q, quantile)) + max(more, 0.0))


def _reach(count: int) -> float:
    return math.sqrt(2 * math.log(max(count, 2)))
