"""Sign codes about the mean, scored against exact queries; plain Hamming distance for a first pass.

A dimension decodes to mean ± mean deviation, the pair of values with the least squared error for its two halves; what
the sum of these deviations has along the mean is taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats


@method(
    title="Binary codes, asymmetric",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="one bit a dimension: squared error ≤ variance − (mean deviation)² + variance along the mean",
)
@dataclass(frozen=True)
class Binary:
    """⌈D/8⌉ bytes; mean and mean deviation of each dimension are learnt."""

    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, X_ND: Any) -> Self:
        """Learn mean and mean deviation of each dimension."""
        rows_ND = _primitives.sample(_primitives.fitting(self, X_ND), _primitives.CALIBRATION_ROWS)
        mean_D = rows_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        size_D = np.abs(rows_ND - mean_D).mean(axis=0, dtype=np.float64).astype(np.float32)
        return replace(self, state={"mean": mean_D, "size": size_D})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Which side of the mean, eight dimensions a byte."""
        mean_D, _ = self._learnt()
        rows_ND = _primitives.encoding(self, X_ND, len(mean_D))
        return _codes.pack(np.packbits(rows_ND > mean_D, axis=1), dim=len(mean_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Mean plus or minus mean deviation, the mean's direction aside."""
        mean_D, size_D = self._learnt()
        bits_ND = _kernels.unpacked(_primitives.data(self, codes), codes.dim)
        decoded: Floats = mean_D + _primitives.beside(mean_D, np.where(bits_ND, size_D, -size_D))
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """Sums of query components, with the codes' signs."""
        mean_D, size_D = self._learnt()
        data_NB = _primitives.data(self, codes)
        query = _primitives.queries(query_MD, codes)
        weight = _primitives.beside(mean_D, query) * size_D
        return _kernels.signs(weight, data_NB) + (query @ mean_D)[:, None]

    def hamming(self, query_MD: Any, codes: _codes.Codes) -> NDArray[np.int32]:
        """In how many bits encoded queries differ from the codes (M, N): coarser than `score`, and symmetric."""
        data_NB = _primitives.data(self, codes)
        signs_MD = 2 * _kernels.unpacked(self.encode(query_MD).data_NB, codes.dim).astype(np.float32) - 1
        distance_MN: NDArray[np.int32] = np.rint((codes.dim - _kernels.signs(signs_MD, data_NB)) / 2).astype(np.int32)
        return distance_MN

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/8⌉."""
        return -(-dim // 8)

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "size")
