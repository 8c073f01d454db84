"""Truncation: the first K dimensions, for models trained so that these stand alone (2205.13147)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codes, _primitives, _reducing
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

    def width(self, dim: int) -> int:
        """K."""
        return _primitives.counted(self, self.components, dim, "components")

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

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The short vectors as floats."""
        return _reducing.encode(self, X_ND)

    def decode(self, codes: _codes.Codes) -> Floats:
        """The short vectors, lifted."""
        return _reducing.decode(self, codes)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """One short matrix product."""
        return _reducing.score(self, query_MD, codes)

    def bytes_per_vector(self, dim: int) -> int:
        """4·K."""
        return 4 * self.width(dim)

    state_nbytes = property(_primitives.state_nbytes)
