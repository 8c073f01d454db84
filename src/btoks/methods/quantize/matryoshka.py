"""Truncation: the first K dimensions, for models trained so that these stand alone (2205.13147)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _primitives, _reducing
from btoks.methods.quantize._primitives import Floats


@method(
    title="Matryoshka truncation",
    paper="2205.13147",
    stage="quantize",
    system="B1",
    identity={"components": 1.0},
)
@dataclass(frozen=True)
class Matryoshka:
    """The first dimensions (a fraction or a number); `renormalize` gives them the whole vector's length."""

    components: float | int = 0.5
    renormalize: bool = True
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")

    def fit(self, X_ND: Any) -> Self:
        """Nothing to learn."""
        self.width(_primitives.matrix(X_ND).shape[1])
        return self

    def reduce(self, X_ND: Any) -> Floats:
        """Cut and, unless all is kept, scale."""
        rows_ND = _primitives.matrix(X_ND)
        dim = rows_ND.shape[1]
        short_NK = np.ascontiguousarray(rows_ND[:, : self.width(dim)])
        if not self.renormalize or short_NK.shape[1] == dim:
            return short_NK
        return _reducing.same_length(short_NK, rows_ND)

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """Zeros for what was cut."""
        return np.pad(Z_NK, ((0, 0), (0, dim - Z_NK.shape[1])))

    def fold(self, query_MD: Floats) -> tuple[Floats, Floats]:
        """The queries, cut."""
        cut_MK = np.ascontiguousarray(query_MD[:, : self.width(query_MD.shape[1])])
        return cut_MK, np.zeros((len(cut_MK), 1), np.float32)

    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)
