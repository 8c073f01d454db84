"""Compositional rows (quotient-remainder trick, 1909.02107): two small tables, their rows added or multiplied."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State

_TURNS = 10


@method(
    title="Quotient-remainder composition",
    paper="1909.02107",
    stage="table",
    system="B2",
    no_identity="two tables of √V rows cannot hold V independent rows",
)
@dataclass(frozen=True)
class Composition:
    """Row i is `quotient[i // R]` and `remainder[i % R]`, added or multiplied, fitted by least squares."""

    combine: str = "add"
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fine = self.combine in ("add", "mult")
        _primitives.refuse_unless(fine, self, f"combine={self.combine!r}", "choose add or mult")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Alternating least squares: each table the best answer to the other."""
        rows_VD = _primitives.table(table_VD)
        remainders = self._remainders(len(rows_VD), rows_VD.shape[1], budget)
        quotient, remainder = np.divmod(np.arange(len(rows_VD)), remainders)
        quotients = int(quotient[-1]) + 1
        r_RD = _primitives.means(rows_VD, remainder, remainders)
        q_QD = np.full((quotients, rows_VD.shape[1]), float(self.combine == "mult"), np.float32)
        for _ in range(_TURNS):
            q_QD = self._answer(rows_VD, r_RD[remainder], quotient, quotients)
            r_RD = self._answer(rows_VD, q_QD[quotient], remainder, remainders)
        return replace(self, state={"quotient": q_QD, "remainder": r_RD, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """One row of each table, combined."""
        ids = _primitives.asked(self, ids_N)
        r_RD: Floats = self.state["remainder"]
        quotient, remainder = np.divmod(ids, len(r_RD))
        first: Floats = self.state["quotient"][quotient]
        return first * r_RD[remainder] if self.combine == "mult" else first + r_RD[remainder]

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·D·(R + ⌈V/R⌉)."""
        remainders = self._remainders(rows, dim, budget)
        return 4 * dim * (remainders + -(-rows // remainders))

    nbytes = property(_primitives.nbytes)

    def _remainders(self, rows: int, dim: int, budget: float) -> int:
        """The largest R whose two tables fit."""
        sizes = np.arange(1, rows + 1)
        both = sizes - (-rows // sizes)
        _primitives.refuse_below(4 * dim * int(both.min()), self, budget, rows, dim)
        return int(sizes[both <= _primitives.allowance(budget, rows, dim) // (4 * dim)][-1])

    def _answer(self, rows_VD: Floats, other_VD: Floats, place: _primitives.Ids, size: int) -> Floats:
        if self.combine == "add":
            return _primitives.means(rows_VD - other_VD, place, size)
        over = _primitives.means(other_VD**2, place, size)
        product = _primitives.means(rows_VD * other_VD, place, size)
        answer: Floats = np.divide(product, over, out=np.zeros_like(product), where=over > 0)
        return answer
