"""8-bit integers: symmetric, one scale a dimension, calibrated by a percentile of the magnitudes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
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
    """D bytes. `percentile` 100 spreads the levels up to the largest magnitude; below, outliers are cut."""

    percentile: float = 100.0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_percentile(self, self.percentile)

    def fit(self, X_ND: Any) -> Self:
        """Learn the step of each dimension."""
        top_D = _primitives.largest(_primitives.fitting(self, X_ND), self.percentile)
        return replace(self, state={"scale": top_D / np.float32(_LEVELS)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Round to the nearest level."""
        scale_D = _primitives.learnt(self, "scale")
        rows_ND = _primitives.encoding(self, X_ND, len(scale_D))
        levels_ND = np.clip(np.rint(rows_ND / scale_D), -_LEVELS, _LEVELS)
        return _codes.pack(levels_ND.astype(np.int8), dim=len(scale_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Levels times steps."""
        scale_D = _primitives.learnt(self, "scale")
        decoded: Floats = _primitives.data(self, codes).view(np.int8) * scale_D
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """Exact integer products with the scaled query."""
        query = _primitives.queries(query_MD, codes) * _primitives.learnt(self, "scale")
        return _kernels.integers(query, _primitives.data(self, codes).view(np.int8), _kernels.tensor)

    def bytes_per_vector(self, dim: int) -> int:
        """D."""
        return dim

    state_nbytes = property(_primitives.state_nbytes)
