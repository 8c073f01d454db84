"""The mean of all states, input and bottleneck tokens alike: implicit pooling, as a comparison."""

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
    title="Mean over the input",
    paper="1908.10084",
    stage="pool",
    cost="none",
    no_identity="the states of the input are not those of the K tokens",
)
@dataclass(frozen=True)
class InputMean:
    """Mean of the states of the whole row; with K = 0 of the input alone."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One stock module."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        return [Pooling(dim, pooling_mode="mean")]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool over the input for a while."""
        return _primitives.swapped(model, self)
