"""Mixed dimensions (1909.11810): the more an id is used the wider its row, by a power law over groups of ids."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _mixed, _primitives
from btoks.methods.table._primitives import Floats, State


@method(title="Mixed dimensions", paper="1909.11810", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class MixedDimension:
    """`groups` groups of ids; the width falls by 2^−`slope` from one to the next, at most D."""

    groups: int = 4
    slope: float = 0.5
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.groups, "groups", 16)
        fine = isinstance(self.slope, int | float) and self.slope >= 0
        _primitives.refuse_unless(fine, self, f"slope={self.slope!r}", "give a number ≥ 0")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """The best factors of each group."""
        rows_VD = _primitives.table(table_VD)
        parts = _mixed.groups(len(rows_VD), self.groups)
        widths = self._widths(len(rows_VD), rows_VD.shape[1], budget)
        state = _mixed.stored(rows_VD, parts, widths)
        whole = min(widths) == rows_VD.shape[1]
        return replace(self, state=state if whole else state | {"widths": np.array(widths, np.int32)})

    def lookup(self, ids_N: Any) -> Floats:
        """Narrow rows, widened."""
        ids = _primitives.asked(self, ids_N)
        rows, dim = self.state["shape"].tolist()
        parts = _mixed.groups(rows, self.groups)
        widths = self.state["widths"].tolist() if "widths" in self.state else [dim] * len(parts)
        return _mixed.lookup(self.state, ids, parts, widths)

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """Σ 4·d·(V + D) over the groups, 4·V·D where d = D; and 4 for each width unless all are D."""
        parts, widths = _mixed.groups(rows, self.groups), self._widths(rows, dim, budget)
        return _mixed.total(parts, widths, dim) + (4 * len(parts) if min(widths) < dim else 0)

    nbytes = property(_primitives.nbytes)

    def _widths(self, rows: int, dim: int, budget: float) -> list[int]:
        """The power law, as high as fits."""
        parts = _mixed.groups(rows, self.groups)
        allowed = _primitives.allowance(budget, rows, dim)
        if allowed >= 4 * rows * dim:
            return [dim] * len(parts)
        ones = _mixed.total(parts, [1] * len(parts), dim) + 4 * len(parts)
        _primitives.refuse_below(ones, self, budget, rows, dim)
        law = 2.0 ** (-self.slope * np.arange(len(parts)))
        heights = (np.clip(np.floor(law * height), 1, dim).astype(int) for height in range(1, int(dim / law[-1]) + 2))
        fitting = [widths for widths in heights if _mixed.total(parts, widths, dim) + 4 * len(parts) <= allowed]
        return fitting[-1].tolist() if fitting else [1] * len(parts)
