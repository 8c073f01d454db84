"""A mean of the bottleneck states weighted by position: later tokens have seen earlier ones (cf. 2202.08904)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


@method(
    title="Position-weighted mean of the bottleneck states",
    paper="2202.08904",
    stage="pool",
    cost="K tokens",
    identity={"slope": 0.0},
)
@dataclass(frozen=True)
class Weighted:
    """Token i of K weighs 1 + slope·i, over the sum of the weights; slope 1 is the position-weighted mean."""

    slope: float = 1.0

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """Stock modules: `WordWeights` with the weights, and a mean."""
        tokens = len(_primitives.bottleneck_names(vocabulary))
        weights = [1.0 + self.slope * place for place in range(tokens)]
        return _primitives.word_weighted_mean(vocabulary, dim, weights)

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by the weighted mean for a while."""
        return _primitives.swapped(model, self)
