"""8-bit integers: levels symmetric about the middle of each dimension's range, which a percentile calibrates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _levels, _primitives
from btoks.methods.quantize._primitives import Floats

_LEVELS = 127


@method(
    title="8-bit integers",
    paper="1712.05877",
    stage="quantize",
    system="B1",
    no_identity="255 levels a dimension: error ≤ half a step within the calibrated range",
)
@dataclass(frozen=True)
class Int8:
    """D bytes. `percentile` 100 spreads the levels over all fitted values; below, as many outliers are cut."""

    percentile: float = 100.0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _levels.check_percentile(self, self.percentile)

    def fit(self, X_ND: Any) -> Self:
        """Learn middle and step of each dimension."""
        middle_D, half_D = _levels.calibrated(_primitives.fitting(self, X_ND), self.percentile)
        return replace(self, state={"middle": middle_D, "step": half_D / np.float32(_LEVELS)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Round to the nearest level."""
        middle_D, step_D = self._learnt()
        rows_ND = _primitives.encoding(self, X_ND, len(step_D))
        return _codes.pack(_levels.nearest(rows_ND, middle_D, step_D, -_LEVELS, _LEVELS), dim=len(step_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Middle plus level times step."""
        middle_D, step_D = self._learnt()
        decoded: Floats = middle_D + _primitives.data(self, codes).view(np.int8) * step_D
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """Exact integer products with the scaled query."""
        middle_D, step_D = self._learnt()
        query = _primitives.queries(query_MD, codes)
        stored = _primitives.data(self, codes).view(np.int8)
        return _kernels.integers(query * step_D, stored, _kernels.tensor) + (query @ middle_D)[:, None]

    def bytes_per_vector(self, dim: int) -> int:
        """D."""
        return dim

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "middle"), _primitives.learnt(self, "step")
