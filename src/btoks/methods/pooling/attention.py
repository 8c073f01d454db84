"""Attention-weighted pooling, trained: the variant beside the mean in Bottleneck Tokens (arXiv 2604.11095)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class AttentionPooling(_primitives.TrainedPooling):
    """The module: a score a token (D → 1), softmax over the K, weighted sum s, LayerNorm(s + MLP(s))."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__(tokens, dim)
        self.score = nn.Linear(dim, 1)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Pool a batch."""
        hidden_BTD: Tensor = features["token_embeddings"]
        states_BKD = _primitives.last_states(hidden_BTD, features["attention_mask"], self.tokens)
        states_BKD = states_BKD.to(self.score.weight.dtype)  # the backbone's may be narrower
        weights_BK1 = torch.softmax(self.score(states_BKD), dim=1)
        pooled_BD = (weights_BK1 * states_BKD).sum(dim=1)
        features["sentence_embedding"] = self.norm(pooled_BD + self.mlp(pooled_BD))
        return features


@method(
    title="Attention-weighted bottleneck states",
    paper="2604.11095",
    stage="pool",
    cost="K tokens, 2·D² products",
    trained=True,
    no_identity="its LayerNorm changes the direction of every vector",
)
@dataclass(frozen=True)
class Attention:
    """A learned weight for each bottleneck state, then a two-layer GELU MLP with residual and LayerNorm."""

    seed: int = 0

    def build(self, dim: int, tokens: int = 4) -> nn.Module:
        """The untrained module for a backbone of this width."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return AttentionPooling(tokens, dim)

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One trained module, opened by `btoks.load`."""
        return [self.build(dim, len(_primitives.bottleneck_names(vocabulary)))]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def parameters(self, dim: int) -> int:
        """Trained parameters, in closed form: score D + 1, MLP 2·(D² + D), LayerNorm 2·D."""
        return (dim + 1) + 2 * (dim * dim + dim) + 2 * dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by attention for a while."""
        return _primitives.swapped(model, self)
