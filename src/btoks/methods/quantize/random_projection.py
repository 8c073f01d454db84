"""Gaussian random projection (Johnson & Lindenstrauss 1984): z = R x with entries N(0, 1/K).

⟨R q, z⟩ is an unbiased estimate of ⟨q, x⟩ with variance (|q|²·|x|² + ⟨q, x⟩²) / K.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _primitives, _reducing
from btoks.methods.quantize._primitives import Floats


@method(
    title="Gaussian random projection",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="also D random directions are not orthogonal: variance (|q|²·|x|² + ⟨q, x⟩²) / K",
)
@dataclass(frozen=True)
class RandomProjection:
    """K random directions (a fraction of D or a number)."""

    components: float | int = 0.5
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")

    def fit(self, X_ND: Any) -> Self:
        """Draw the directions for vectors of this width."""
        dim = _primitives.matrix(X_ND).shape[1]
        width = self.width(dim)
        drawn_DK = _primitives.generator(self.seed).standard_normal((dim, width)) / np.sqrt(width)
        return replace(self, state={"directions": drawn_DK.astype(np.float32)})

    def reduce(self, X_ND: Any) -> Floats:
        """Products with the directions."""
        directions_DK = _primitives.learnt(self, "directions")
        short_NK: Floats = _primitives.encoding(self, X_ND, len(directions_DK)) @ directions_DK
        return short_NK

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """The vectors whose products with queries are the estimates."""
        lifted: Floats = Z_NK @ _primitives.learnt(self, "directions").T
        return lifted

    def fold(self, query_MD: Floats) -> tuple[Floats, Floats]:
        """The queries, projected."""
        return query_MD @ _primitives.learnt(self, "directions"), np.zeros((len(query_MD), 1), np.float32)

    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)
