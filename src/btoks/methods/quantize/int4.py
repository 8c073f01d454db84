"""4-bit integers: levels symmetric about the middle of each dimension's range, which a percentile calibrates.

    code   0    1   …   7   8   …  14   15
    level −15  −13  …  −1   1   …  13   15     in units of half a step

Two codes a byte: the first half of the dimensions lies in the low nibbles, the second half in the high ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _levels, _primitives, _scanning
from btoks.methods.quantize._primitives import Floats

_MOST = 15


def _unpacked(block: NDArray[np.uint8]) -> Tensor:
    """Both halves of the dimensions side by side, an unused last nibble included."""
    packed = _kernels.tensor(block)
    return torch.cat([packed & _MOST, packed >> 4], dim=1).view(torch.int8) * 2 - _MOST


@method(
    title="4-bit integers",
    paper="1712.05877",
    stage="quantize",
    system="B1",
    no_identity="16 levels a dimension: error ≤ half a step within the calibrated range",
)
@dataclass(frozen=True)
class Int4:
    """⌈D/2⌉ bytes. Few levels are better spent on the bulk than on outliers: `percentile` is below 100."""

    percentile: float = 99.5
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _levels.check_percentile(self, self.percentile)

    def fit(self, X_ND: Any) -> Self:
        """Learn middle and half a step of each dimension."""
        middle_D, half_D = _levels.calibrated(_primitives.fitting(self, X_ND), self.percentile)
        return replace(self, state={"middle": middle_D, "half_step": half_D / np.float32(_MOST)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Round to the nearest level."""
        middle_D, half_D = self._learnt()
        rows_ND = _primitives.encoding(self, X_ND, len(half_D))
        code_ND = _levels.nearest(rows_ND, middle_D - _MOST * half_D, 2 * half_D, 0, _MOST).view(np.uint8)
        packed_NB = code_ND[:, : self.bytes_per_vector(len(half_D))].copy()
        high = len(half_D) // 2
        packed_NB[:, :high] |= code_ND[:, -high:] << 4
        return _codes.pack(packed_NB, dim=len(half_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """Middle plus level times half a step."""
        middle_D, half_D = self._learnt()
        levels_ND: Floats = _unpacked(_primitives.data(self, codes)).float().numpy()[:, : codes.dim]
        decoded: Floats = middle_D + levels_ND * half_D
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a byte by faiss for few queries; else exact integer products with the scaled query."""
        middle_D, half_D = self._learnt()
        data_NB = _primitives.data(self, codes)
        query = _primitives.queries(query_MD, codes)
        padded: Floats = np.pad(query * half_D, ((0, 0), (0, codes.dim % 2)))
        constant: Floats = query @ middle_D
        if _scanning.helps(query):
            words_2V = _unpacked(np.arange(256, dtype=np.uint8)[:, None]).float().T
            halves_MJ2 = torch.from_numpy(padded).reshape(len(query), 2, data_NB.shape[1]).transpose(1, 2)
            return _scanning.look_ups(halves_MJ2 @ words_2V, data_NB) + constant[:, None]
        return _kernels.integers(padded, data_NB, _unpacked) + constant[:, None]

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/2⌉."""
        return -(-dim // 2)

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "middle"), _primitives.learnt(self, "half_step")
