"""Pruning by magnitude (DeepLight 2002.06987; PEP and others learn the threshold): only the largest numbers stay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(title="Magnitude pruning", paper="2002.06987", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class Pruning:
    """The largest magnitudes as floats, a bit a number that says which, and where each row starts.

    row 0   1 0 0 1   starts 0    values  a b c
    row 1   0 0 1 0   starts 2            0 1 2
    """

    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Keep the largest; with the whole budget, all."""
        rows_VD = _primitives.table(table_VD)
        shape = _primitives.shape(rows_VD)
        kept = self._kept(len(rows_VD), rows_VD.shape[1], budget)
        if kept >= rows_VD.size:
            return replace(self, state={"values": rows_VD.ravel(), "shape": shape})
        order = np.argsort(-np.abs(rows_VD).ravel(), kind="stable")[:kept]
        mask_VD = np.zeros(rows_VD.shape, bool)
        mask_VD.flat[order] = True
        starts_V = np.concatenate([[0], np.cumsum(mask_VD.sum(axis=1))[:-1]])
        state: State = {
            "values": rows_VD[mask_VD],
            "mask": np.packbits(mask_VD, axis=1),
            "starts": starts_V.astype(np.int32),
        }
        return replace(self, state=state | {"shape": shape})

    def lookup(self, ids_N: Any) -> Floats:
        """The kept numbers in their places, zeros elsewhere."""
        ids = _primitives.asked(self, ids_N)
        values, dim = self.state["values"], int(self.state["shape"][1])
        if "mask" not in self.state:
            whole: Floats = values.reshape(-1, dim)[ids]
            return whole
        mask_ND = np.unpackbits(self.state["mask"][ids], axis=1, count=dim).astype(bool)
        place_ND = self.state["starts"][ids][:, None] + np.cumsum(mask_ND, axis=1) - 1
        rows_ND = np.zeros((len(ids), dim), np.float32)
        rows_ND[mask_ND] = values[place_ND[mask_ND]]
        return rows_ND

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·kept + V·⌈D/8⌉ + 4·V; 4·V·D when all are kept."""
        kept = self._kept(rows, dim, budget)
        return 4 * kept + (rows * (-(-dim // 8) + 4) if kept < rows * dim else 0)

    nbytes = property(_primitives.nbytes)

    def _kept(self, rows: int, dim: int, budget: float) -> int:
        allowed, places = _primitives.allowance(budget, rows, dim), rows * (-(-dim // 8) + 4)
        if allowed >= 4 * rows * dim:
            return rows * dim
        _primitives.refuse_below(places + 4, self, budget, rows, dim)
        return (allowed - places) // 4
