"""ROBE (2108.02191): all rows live in one circular array; a row is blocks of it at hashed places, with hashed signs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(
    title="Blocks of one circular array",
    paper="2108.02191",
    stage="table",
    system="B2",
    no_identity="blocks overlap by chance at every size of the array",
)
@dataclass(frozen=True)
class Robe:
    """An array of budget·V·D floats, read in runs of `block`; each cell is the mean of what reads it."""

    block: int = 8
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.block, "block")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """The signed means: every number is read from one cell, so this is the least squared error."""
        rows_VD = _primitives.table(table_VD)
        size = self._size(len(rows_VD), rows_VD.shape[1], budget)
        cells_VD, signs_VD = self._cells(np.arange(len(rows_VD)), rows_VD.shape[1], size)
        array_S = _primitives.means((rows_VD * signs_VD).ravel(), cells_VD.ravel(), size)
        return replace(self, state={"array": array_S, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """Runs of the array."""
        ids = _primitives.asked(self, ids_N)
        array_S: Floats = self.state["array"]
        cells_ND, signs_ND = self._cells(ids, int(self.state["shape"][1]), len(array_S))
        return array_S[cells_ND] * signs_ND

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·S with S = budget·V·D."""
        return 4 * self._size(rows, dim, budget)

    nbytes = property(_primitives.nbytes)

    def _size(self, rows: int, dim: int, budget: float) -> int:
        _primitives.refuse_below(4, self, budget, rows, dim)
        return _primitives.allowance(budget, rows, dim) // 4

    def _cells(self, ids: _primitives.Ids, dim: int, size: int) -> tuple[_primitives.Ids, Floats]:
        column_D = np.arange(dim)
        runs = -(-dim // self.block)
        key_ND = ids[:, None] * runs + column_D // self.block
        cells_ND: _primitives.Ids = (_primitives.hashed(key_ND, self.seed, size) + column_D % self.block) % size
        signs_ND = 1 - 2 * _primitives.hashed(key_ND, self.seed + 1, 2)
        return cells_ND, signs_ND.astype(np.float32)
