"""The K bottleneck states side by side: nothing is averaged away, at K times the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ConcatPooling(_primitives.StatesPooling):
    """The module: reads the last K attended states, writes `sentence_embedding` (B, K·D)."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Join the states of a batch."""
        hidden_BTD: Tensor = features["token_embeddings"]
        states_BKD = _primitives.last_states(hidden_BTD, features["attention_mask"], self.tokens)
        features["sentence_embedding"] = states_BKD.flatten(1)
        return features

    def get_embedding_dimension(self) -> int:
        """K·D."""
        return self.tokens * self.dim


@method(
    title="Concatenated bottleneck states",
    paper="2604.11095",
    stage="pool",
    cost="K tokens, vectors of K·D",
    no_identity="the embedding is K times as wide as the plain one",
)
@dataclass(frozen=True)
class Concat:
    """All K states in one vector."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One module, opened by `btoks.load`."""
        return [ConcatPooling(len(_primitives.bottleneck_names(vocabulary)), dim)]

    def width(self, tokens: int, dim: int) -> int:
        """K·D."""
        return tokens * dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by concatenation for a while."""
        return _primitives.swapped(model, self)
