"""The state of the last input token, right before the bottleneck tokens: what they are to improve on (2410.05160)."""

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


class LastInputPooling(_primitives.StatesPooling):
    """The module: reads the state before the last K attended ones, writes `sentence_embedding` (B, D)."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Pick the states of a batch."""
        hidden_BTD: Tensor = features["token_embeddings"]
        states = _primitives.last_states(hidden_BTD, features["attention_mask"], self.tokens + 1)
        features["sentence_embedding"] = states[:, 0]
        return features


@method(
    title="Last input token",
    paper="2410.05160",
    stage="pool",
    cost="K tokens",
    no_identity="the bottleneck states are left out",
)
@dataclass(frozen=True)
class LastInput:
    """State of the token before the bottleneck tokens, which cannot see them: the model as if it had none."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One module, opened by `btoks.load`."""
        return [LastInputPooling(len(_primitives.bottleneck_names(vocabulary)), dim)]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by the last input token for a while."""
        return _primitives.swapped(model, self)
