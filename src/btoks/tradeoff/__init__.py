"""What does each compression of these vectors cost in quality? Every method and chain measured, one recommended.

found = tradeoff.tradeoff(tradeoff.read("vectors.npy"), budget=tradeoff.amount("2GB"))
found.recommended.spec
"""

from btoks.tradeoff.choosing import Tradeoff, amount, front, recommend, tradeoff
from btoks.tradeoff.drawing import check_picture, draw
from btoks.tradeoff.measuring import SLOW, Point, candidates, measure, quality
from btoks.tradeoff.reading import Collection, is_library, labels, read

__all__ = [
    "SLOW",
    "Collection",
    "Point",
    "Tradeoff",
    "amount",
    "candidates",
    "check_picture",
    "draw",
    "front",
    "is_library",
    "labels",
    "measure",
    "quality",
    "read",
    "recommend",
    "tradeoff",
]
