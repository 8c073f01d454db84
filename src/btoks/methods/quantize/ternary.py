"""Ternary codes (1612.01064): each dimension −1, 0 or 1 about its mean; five a byte, 1.6 bits a dimension.

What the decoded deviations have along the mean is taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats

_TRITS, _ROUNDS = 5, 10
_PLACES = 3 ** np.arange(_TRITS, dtype=np.uint8)
_WORDS = (np.arange(3**_TRITS)[:, None] // _PLACES % 3 - 1).astype(np.int8)


def _sizes(size_ND: Floats) -> Floats:
    """The size (D,) that three levels about zero need: Lloyd's rule, a value counts when beyond half the size."""
    size_D: Floats = size_ND.mean(axis=0)
    for _ in range(_ROUNDS):
        counts_ND = size_ND > size_D / 2
        size_D = (size_ND * counts_ND).sum(axis=0) / np.maximum(counts_ND.sum(axis=0), 1)
    return size_D.astype(np.float32)


@method(
    title="Ternary codes",
    paper="1612.01064",
    stage="quantize",
    system="B1",
    no_identity="the nearest of three levels a dimension, less what lies along the mean",
)
@dataclass(frozen=True)
class Ternary:
    """⌈D/5⌉ bytes; mean and size of each dimension are learnt."""

    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, X_ND: Any) -> Self:
        """Learn mean and size of each dimension."""
        rows_ND = _primitives.sample(_primitives.fitting(self, X_ND), _primitives.CALIBRATION_ROWS)
        mean_D = rows_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        return replace(self, state={"mean": mean_D, "size": _sizes(np.abs(rows_ND - mean_D))})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The nearest of the three levels, five a byte."""
        mean_D, size_D = self._learnt()
        rows_ND = _primitives.encoding(self, X_ND, len(mean_D)) - mean_D
        trits_ND = (1 + np.sign(rows_ND) * (np.abs(rows_ND) > size_D / 2)).astype(np.uint8)
        padded_ND = np.pad(trits_ND, ((0, 0), (0, -len(mean_D) % _TRITS)), constant_values=1)
        trits_NBT = padded_ND.reshape(len(rows_ND), self.bytes_per_vector(len(mean_D)), _TRITS)
        packed_NB = (trits_NBT * _PLACES).sum(axis=2, dtype=np.uint8)
        return _codes.pack(packed_NB, dim=len(mean_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Mean plus trit times size, the mean's direction aside."""
        mean_D, size_D = self._learnt()
        words_NBT: NDArray[np.int8] = _WORDS[_primitives.data(self, codes)]
        trits_ND = words_NBT.reshape(len(codes), words_NBT.shape[1] * _TRITS)[:, : codes.dim]
        decoded: Floats = mean_D + _primitives.beside(mean_D, trits_ND * size_D)
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a byte in the products of the query with all 243 words."""
        mean_D, size_D = self._learnt()
        data_NB = _primitives.data(self, codes)
        query = _primitives.queries(query_MD, codes)
        table_MJV = _kernels.run_tables(_primitives.beside(mean_D, query) * size_D, _WORDS.astype(np.float32))
        return _kernels.tables(table_MJV, data_NB) + (query @ mean_D)[:, None]

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/5⌉."""
        return -(-dim // _TRITS)

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "size")
