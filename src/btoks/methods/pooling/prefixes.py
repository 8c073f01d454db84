"""An adaptive number of bottleneck tokens: any first k of the K states pool to an embedding (cf. 2205.13147).

Designed here, after Matryoshka embeddings, which nest dimensions; these nest tokens, which causal attention gives for
nothing: the first k states are those of a model with k tokens.

    k = 1   x . . .      e_k = mean of the first k states
    k = 2   x x . .      training   mean of the K contrastive losses; generation from the first k, a step each k
    k = 3   x x x .      afterwards the smallest k with 1 - cos(e_k, e_K) <= tolerance, item by item
    k = 4   x x x x
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class PrefixPooling(_primitives.StatesPooling):
    """The module: writes `sentence_embedding` (B, D), `kept` (B,) and, for the training loss, `views` (B, K·D)."""

    config_keys = ["tokens", "dim", "keep", "tolerance"]

    def __init__(self, tokens: int, dim: int, keep: int | None, tolerance: float) -> None:
        super().__init__(tokens, dim)
        self.keep, self.tolerance, self.views = keep, tolerance, tokens

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Pool a batch."""
        from btoks.adaptive import changes, means, smallest

        hidden_BTD: Tensor = features["token_embeddings"]
        states_BKD = _primitives.last_states(hidden_BTD, features["attention_mask"], self.tokens)
        means_BKD = means(states_BKD)[:, : self.keep]
        kept_B = smallest(changes(means_BKD), self.tolerance)
        at_B1D = (kept_B - 1)[:, None, None].expand(-1, 1, self.dim)
        features["sentence_embedding"] = means_BKD.gather(1, at_B1D)[:, 0]
        features["kept"], features["views"] = kept_B, means(states_BKD).flatten(1)
        return features


@method(
    title="Adaptive number of bottleneck tokens, nested prefixes",
    paper="2205.13147",
    stage="pool",
    identity={"tolerance": 0.0},
    cost="K tokens, memory of k",
)
@dataclass(frozen=True)
class Prefixes:
    """The mean of the first k states: the fewest that change the embedding by no more than `tolerance`.

    `keep` is the largest k, all of them by default. The embedding has D numbers whatever k is; what shrinks with k is
    the memory (`btoks.adaptive.remembered`).
    """

    tolerance: float = 0.0
    keep: int | None = None

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One module, opened by `btoks.load`."""
        tokens = len(_primitives.bottleneck_names(vocabulary))
        if self.keep is not None and not 1 <= self.keep <= tokens:
            raise BtoksError(f"keep={self.keep}", f"the model has {tokens} bottleneck tokens", f"pass 1 to {tokens}")
        return [PrefixPooling(tokens, dim, self.keep, self.tolerance)]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by prefixes for a while."""
        return _primitives.swapped(model, self)
