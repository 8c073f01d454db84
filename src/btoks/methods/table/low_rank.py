"""Low rank: the truncated singular value decomposition, the best linear answer (Eckart & Young 1936)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(
    title="Low-rank factors",
    paper="2311.15578",
    stage="table",
    system="B2",
    no_identity="two factors of full rank take more bytes than the table",
)
@dataclass(frozen=True)
class LowRank:
    """Factors (V, r) and (r, D) with the largest r that fits."""

    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Decompose."""
        rows_VD = _primitives.table(table_VD)
        rank = self._rank(len(rows_VD), rows_VD.shape[1], budget)
        left_VR, right_RD = _primitives.factors(rows_VD, rank)
        return replace(self, state={"left": left_VR, "right": right_RD, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """Rows of the left factor times the right one."""
        ids = _primitives.asked(self, ids_N)
        rows: Floats = self.state["left"][ids] @ self.state["right"]
        return rows

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·r·(V + D)."""
        return 4 * self._rank(rows, dim, budget) * (rows + dim)

    nbytes = property(_primitives.nbytes)

    def _rank(self, rows: int, dim: int, budget: float) -> int:
        _primitives.refuse_below(4 * (rows + dim), self, budget, rows, dim)
        return _primitives.allowance(budget, rows, dim) // (4 * (rows + dim))
