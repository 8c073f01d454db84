"""Late interaction over the bottleneck states: K vectors an item, compared by MaxSim (ColBERT, arXiv 2004.12832).

ColBERT keeps a vector for every token of a text; here an item of any length keeps K. Each state is normalised:

    embedding   [ s_1 | s_2 | … | s_K ] / √K            K·D numbers, of unit length together
    MaxSim      mean over i of max over j of cos(q_i, d_j)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class LatePooling(_primitives.StatesPooling):
    """The module: writes the K unit states side by side as `sentence_embedding` (B, K·D); `states` is K."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__(tokens, dim)
        self.states = tokens

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Keep the states of a batch."""
        hidden_BTD: Tensor = features["token_embeddings"]
        states_BKD = _primitives.last_states(hidden_BTD, features["attention_mask"], self.tokens)
        features["sentence_embedding"] = normalize(states_BKD, dim=2).flatten(1)
        return features

    def get_embedding_dimension(self) -> int:
        """K·D."""
        return self.tokens * self.dim


@method(
    title="Late interaction over the bottleneck states",
    paper="2004.12832",
    stage="pool",
    no_identity="it keeps K vectors where the plain model has one",
    cost="K tokens, K times the bytes, K² the comparisons",
)
@dataclass(frozen=True)
class LateInteraction:
    """K unit vectors an item, 4·K·D bytes as float32; `btoks.similarity.similarity` compares them."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One module, opened by `btoks.load`."""
        return [LatePooling(len(_primitives.bottleneck_names(vocabulary)), dim)]

    def width(self, tokens: int, dim: int) -> int:
        """K·D."""
        return tokens * dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Keep the states apart for a while."""
        return _primitives.swapped(model, self)
