"""Searched dimensions (AutoDim, 2006.14827): each group of ids gets the width that lowers the total error most a byte.

On a frozen table the search needs no training: the error of a width is the sum of the squared singular values left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _mixed, _primitives
from btoks.methods.table._primitives import Floats, State


@method(
    title="Searched dimensions",
    paper="2006.14827",
    stage="table",
    system="B2",
    no_identity="narrow groups need maps, and widths near D take more bytes than the table",
)
@dataclass(frozen=True)
class Autodim:
    """`groups` groups of ids; singular values are taken in the order of what they explain a byte."""

    groups: int = 4
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.groups, "groups", 16)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Search the widths, then the best factors of each group."""
        rows_VD = _primitives.table(table_VD)
        rows, dim = len(rows_VD), rows_VD.shape[1]
        parts = _mixed.groups(rows, self.groups)
        spectra = [np.linalg.svd(rows_VD[part].astype(np.float64), compute_uv=False) for part in parts]
        widths = _searched(parts, spectra, dim, self._allowed(rows, dim, budget))
        return replace(self, state=_mixed.stored(rows_VD, parts, widths) | {"widths": np.array(widths, np.int32)})

    def lookup(self, ids_N: Any) -> Floats:
        """Narrow rows, widened."""
        ids = _primitives.asked(self, ids_N)
        parts = _mixed.groups(int(self.state["shape"][0]), self.groups)
        return _mixed.lookup(self.state, ids, parts, self.state["widths"].tolist())

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """At most the budget: Σ 4·d·(V + D) over the groups for the widths found, and 4 for each width."""
        return self._allowed(rows, dim, budget) + 4 * len(_mixed.groups(rows, self.groups))

    nbytes = property(_primitives.nbytes)

    def _allowed(self, rows: int, dim: int, budget: float) -> int:
        parts = _mixed.groups(rows, self.groups)
        _primitives.refuse_below(4 * len(parts), self, budget, rows, dim)
        return _primitives.allowance(budget, rows, dim) - 4 * len(parts)


def _searched(parts: list[slice], spectra: list[Any], dim: int, allowed: int) -> list[int]:
    steps = [
        (-(float(size) ** 2) / (part.stop - part.start + dim), place, rank)
        for place, (part, spectrum) in enumerate(zip(parts, spectra, strict=True))
        for rank, size in enumerate(spectrum)
        if rank < dim and size > 0
    ]
    widths = [0] * len(parts)
    for _, place, rank in sorted(steps):
        # A group's singular values come in falling order: one that did not fit ends its group.
        if rank == widths[place]:
            grown = [width + (each == place) for each, width in enumerate(widths)]
            if _mixed.total(parts, grown, dim) <= allowed:
                widths = grown
    return widths
