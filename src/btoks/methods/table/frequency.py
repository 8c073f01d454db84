"""Frequency-adaptive rows (CAFE, 2312.03256): much used ids keep rows of their own, the others share by hash."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(title="Private rows for much used ids", paper="2312.03256", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class Frequency:
    """R = budget·V rows: `hot` of them private to the first ids, the rest shared by hash."""

    hot: float = 0.5
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fine = isinstance(self.hot, int | float) and 0 <= self.hot < 1
        _primitives.refuse_unless(fine, self, f"hot={self.hot!r}", "give a share from 0 to below 1")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """The first rows, then the means of those that share a place."""
        rows_VD = _primitives.table(table_VD)
        count = self._rows(len(rows_VD), rows_VD.shape[1], budget)
        places = self._places(np.arange(len(rows_VD)), len(rows_VD), count)
        stored_RD = _primitives.means(rows_VD, places, count)
        return replace(self, state={"rows": stored_RD, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """Private or shared rows."""
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
        own: _primitives.Ids = np.asarray(ids, np.int64)
        if count >= rows:
            return own
        private = int(self.hot * count)
        shared: _primitives.Ids = private + _primitives.hashed(own, self.seed, count - private)
        places: _primitives.Ids = np.where(own < private, own, shared)
        return places
