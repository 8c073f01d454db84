"""Low precision with a learnt scale a row (ALPT, 2212.05735): as many bits a number as the budget allows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State

_TURNS = 5
_WIDTHS = (16, 8, 4, 2)


@method(title="Low precision, learnt scales", paper="2212.05735", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class LowPrecision:
    """32 or 16 bits as floats, 8, 4 or 2 bits as integers times a scale a row."""

    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Round; for integers round and scale take turns, each the best answer to the other."""
        rows_VD = _primitives.table(table_VD)
        bits, shape = self._bits(len(rows_VD), rows_VD.shape[1], budget), _primitives.shape(rows_VD)
        if bits == 32:
            return replace(self, state={"floats": rows_VD, "shape": shape})
        if bits == 16:
            largest = np.float32(np.finfo(np.float16).max)
            return replace(self, state={"floats": rows_VD.clip(-largest, largest).astype(np.float16), "shape": shape})
        most = 2 ** (bits - 1) - 1
        top_V1 = np.abs(rows_VD).max(axis=1, keepdims=True)
        scale_V1 = np.where(top_V1 > 0, top_V1, 1) / np.float32(most)
        for _ in range(_TURNS):
            level_VD = np.rint(rows_VD / scale_V1).clip(-most, most)
            square_V1 = (level_VD**2).sum(axis=1, keepdims=True)
            best_V1 = (rows_VD * level_VD).sum(axis=1, keepdims=True) / np.maximum(square_V1, 1)
            scale_V1 = np.where(best_V1 > 0, best_V1, scale_V1)
        level_VD = np.rint(rows_VD / scale_V1).clip(-most, most) + most
        packed = _packed(level_VD.astype(np.uint8), bits)
        scale_V = scale_V1[:, 0].astype(np.float32)
        return replace(
            self, state={"packed": packed, "scale": scale_V, "bits": np.array([bits], np.uint8), "shape": shape}
        )

    def lookup(self, ids_N: Any) -> Floats:
        """Widened, scaled."""
        ids = _primitives.asked(self, ids_N)
        if "floats" in self.state:
            return self.state["floats"][ids].astype(np.float32)
        bits, dim = int(self.state["bits"][0]), int(self.state["shape"][1])
        shift_P = np.arange(0, 8, bits, dtype=np.uint8)
        level_NBP = self.state["packed"][ids][:, :, None] >> shift_P & np.uint8(2**bits - 1)
        level_ND = level_NBP.reshape(len(ids), level_NBP.shape[1] * len(shift_P))[:, :dim].astype(np.float32)
        rows: Floats = (level_ND - np.float32(2 ** (bits - 1) - 1)) * self.state["scale"][ids][:, None]
        return rows

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """V·⌈D·bits/8⌉, and with integers 4·V + 1."""
        return _size(rows, dim, self._bits(rows, dim, budget))

    nbytes = property(_primitives.nbytes)

    def _bits(self, rows: int, dim: int, budget: float) -> int:
        allowed = _primitives.allowance(budget, rows, dim)
        if allowed >= 4 * rows * dim:
            return 32
        _primitives.refuse_below(_size(rows, dim, _WIDTHS[-1]), self, budget, rows, dim)
        return next(bits for bits in _WIDTHS if _size(rows, dim, bits) <= allowed)


def _size(rows: int, dim: int, bits: int) -> int:
    return rows * -(-dim * bits // 8) + (4 * rows + 1 if bits <= 8 else 0)


def _packed(level_VD: Any, bits: int) -> Any:
    """Levels side by side in bytes, the first in the lowest bits."""
    each = 8 // bits
    padded = np.pad(level_VD, ((0, 0), (0, -level_VD.shape[1] % each)))
    shifted = padded.reshape(len(padded), padded.shape[1] // each, each) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(shifted, axis=2)
