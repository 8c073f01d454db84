"""Hashing: ids share rows (Weinberger et al., 0902.2206); a shared row is the mean of those it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(title="Hashed rows", paper="2311.15578", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class Hash:
    """R = budget·V rows; with all of them every id has its own."""

    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """The means of the rows that share a place."""
        rows_VD = _primitives.table(table_VD)
        count = self._rows(len(rows_VD), rows_VD.shape[1], budget)
        stored_RD = _primitives.means(rows_VD, self._places(np.arange(len(rows_VD)), len(rows_VD), count), count)
        return replace(self, state={"rows": stored_RD, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """The shared rows."""
        ids = _primitives.asked(self, ids_N)
        stored_RD: Floats = self.state["rows"]
        return stored_RD[self._places(ids, int(self.state["shape"][0]), len(stored_RD))]

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·R·D."""
        return 4 * self._rows(rows, dim, budget) * dim

    nbytes = property(_primitives.nbytes)

    def _rows(self, rows: int, dim: int, budget: float) -> int:
        _primitives.refuse_below(4 * dim, self, budget, rows, dim)
        return _primitives.allowance(budget, rows, dim) // (4 * dim)

    def _places(self, ids: Any, rows: int, count: int) -> _primitives.Ids:
        return np.asarray(ids, np.int64) if count >= rows else _primitives.hashed(ids, self.seed, count)
