"""The state of the last token: the pooling that the bottleneck tokens are compared with (VLM2Vec, 2410.05160)."""

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
    title="Last token",
    paper="2410.05160",
    stage="pool",
    cost="none",
    no_identity="one of the K states is not their mean",
)
@dataclass(frozen=True)
class Last:
    """State of the last token of the row: the last bottleneck token, or with K = 0 the end of the prompt."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One stock module."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        return [Pooling(dim, pooling_mode="lasttoken")]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by the last token for a while."""
        return _primitives.swapped(model, self)
