"""4-bit integers: symmetric, one scale a dimension, calibrated by a percentile; two numbers a byte.

The first half of the dimensions lies in the low nibbles, the second half in the high ones, each 1 … 15 for −7 … 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats

_LEVELS = 7


def _levels(block: NDArray[np.uint8]) -> Tensor:
    """Both halves of the dimensions side by side, an unused last nibble included."""
    packed = _kernels.tensor(block)
    return torch.cat([packed & 15, packed >> 4], dim=1).view(torch.int8) - (_LEVELS + 1)


@method(
    title="4-bit integers",
    paper="1712.05877",
    stage="quantize",
    system="B1",
    no_identity="15 levels a dimension: error ≤ half a step within the calibrated range",
)
@dataclass(frozen=True)
class Int4:
    """⌈D/2⌉ bytes. Few levels are better spent on the bulk than on outliers: `percentile` is below 100."""

    percentile: float = 99.0
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
        levels_ND = np.clip(np.rint(rows_ND / scale_D), -_LEVELS, _LEVELS).astype(np.int8) + np.int8(_LEVELS + 1)
        low_NB, high_NB = np.split(np.pad(levels_ND, ((0, 0), (0, len(scale_D) % 2))).view(np.uint8), 2, axis=1)
        return _codes.pack(low_NB | high_NB << 4, dim=len(scale_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Levels times steps."""
        scale_D = _primitives.learnt(self, "scale")
        decoded: Floats = _levels(_primitives.data(self, codes)).numpy()[:, : codes.dim] * scale_D
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """Exact integer products with the scaled query."""
        data_NB = _primitives.data(self, codes)
        query = _primitives.queries(query_MD, codes) * _primitives.learnt(self, "scale")
        return _kernels.integers(np.pad(query, ((0, 0), (0, codes.dim % 2))), data_NB, _levels)

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/2⌉."""
        return -(-dim // 2)

    state_nbytes = property(_primitives.state_nbytes)
