"""CREM: chorus tokens trained to retrieve and to generate, with and without the input in sight (system A7).

Chorus tokens are bottleneck tokens, the embedding is the mean of their states, and the compression-aware mask is the
condensation mask. What CREM adds is a switch z, drawn anew for every batch:

                    input  chorus  answer                    input  chorus  answer
    z = 1   answer    .      x     causal       z = 0   answer   x      x     causal

Designed here: z is drawn from seed and step, so that every device and a run that goes on draw alike. Afterwards there
are three ways to use the model: its embeddings, reading from the whole input (`memory(…, full=True)`, an ordinary
language model) and reading from the chorus alone (`memory(…)`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.pooling import _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


@method(
    title="CREM, chorus tokens",
    paper="2602.19091",
    system="A7",
    stage="pool",
    identity={},
    cost="K tokens",
)
@dataclass(frozen=True)
class Crem:
    """Mean of the chorus states; generation is trained from the chorus alone in a share `masked` of the batches."""

    masked: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.masked <= 1:
            raise BtoksError(f"masked={self.masked}", "not a share", "pass 0 (never) to 1 (always)")

    def masks(self, step: int) -> bool:
        """z of a step: whether its generation sees the chorus tokens alone."""
        return bool(np.random.default_rng([self.seed, step]).random() < self.masked)

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """Stock modules: those of the mean."""
        weights = [1.0] * len(_primitives.bottleneck_names(vocabulary))
        return _primitives.word_weighted_mean(vocabulary, dim, weights)

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool by the mean for a while."""
        return _primitives.swapped(model, self)
