"""Principal components (Pearson 1901): the linear map with the least squared error, its mean put back when decoding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _primitives, _reducing
from btoks.methods.quantize._primitives import Floats


@method(
    title="Principal components",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    identity={"components": 1.0},
)
@dataclass(frozen=True)
class Pca:
    """The first components (a fraction or a number).

    With `renormalize` the directions are taken about the origin and every short vector keeps the whole one's length, so
    that cosines on the short side need no mean.
    """

    components: float | int = 0.5
    renormalize: bool = False
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")

    def fit(self, X_ND: Any) -> Self:
        """Learn mean and directions."""
        rows_ND = _primitives.fitting(self, X_ND)
        mean_D = rows_ND.mean(axis=0, dtype=np.float64).astype(np.float32) * np.float32(not self.renormalize)
        _, directions_DD = _primitives.principal(rows_ND, mean_D)
        kept_DK = np.ascontiguousarray(directions_DD[:, : self.width(rows_ND.shape[1])])
        return replace(self, state={"mean": mean_D, "directions": kept_DK})

    def reduce(self, X_ND: Any) -> Floats:
        """Coordinates along the directions."""
        mean_D, directions_DK = self._learnt()
        rest_ND: Floats = _primitives.encoding(self, X_ND, len(mean_D)) - mean_D
        short_NK: Floats = rest_ND @ directions_DK
        if not self.renormalize:
            return short_NK
        return _reducing.same_length(short_NK, rest_ND)

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """Mean plus coordinates times directions."""
        mean_D, directions_DK = self._learnt()
        lifted: Floats = mean_D + Z_NK @ directions_DK.T
        return lifted

    def fold(self, query_MD: Floats) -> tuple[Floats, Floats]:
        """The queries' coordinates, and their products with the mean."""
        mean_D, directions_DK = self._learnt()
        return query_MD @ directions_DK, (query_MD @ mean_D)[:, None]

    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "directions")
