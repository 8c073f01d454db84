"""The mean of the K bottleneck states: the published pooling of Bottleneck Tokens (arXiv 2604.11095)."""

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
    title="BToks — Bottleneck Tokens + Condensation Mask + Generative Information Condensation",
    paper="2604.11095",
    system="M0",
    stage="pool",
    cost="K tokens",
    identity={},
)
@dataclass(frozen=True)
class Mean:
    """Mean of the bottleneck states; stock modules only."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """`WordWeights` (1 for each bottleneck token, 0 for the rest) and a mean."""
        weights = [1.0] * len(_primitives.bottleneck_names(vocabulary))
        return _primitives.word_weighted_mean(vocabulary, dim, weights)

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by the mean for a while."""
        return _primitives.swapped(model, self)
