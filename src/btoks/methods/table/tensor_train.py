"""Tensor train (TT-Rec, 2101.11714): the table as a product of three small cores, found by TT-SVD (Oseledets 2011).

row i = (i₁, i₂, i₃), column d = (d₁, d₂, d₃), both written in mixed radix
table[i, d] = A[i₁, d₁, :] · B[:, i₂, d₂, :] · C[:, i₃, d₃]
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(
    title="Tensor train",
    paper="2101.11714",
    stage="table",
    system="B2",
    no_identity="cores of full rank take more bytes than the table",
)
@dataclass(frozen=True)
class TensorTrain:
    """Three cores with the largest rank that fits."""

    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Cut one mode off after the other by singular value decomposition."""
        rows_VD = _primitives.table(table_VD)
        rows, dim = len(rows_VD), rows_VD.shape[1]
        v, d = _radix(rows, whole=False), _radix(dim, whole=True)
        first, second = self._ranks(rows, dim, budget)
        padded = np.pad(rows_VD, ((0, int(np.prod(v)) - rows), (0, 0)))
        modes = padded.reshape(*v, *d).transpose(0, 3, 1, 4, 2, 5)
        a, rest = _primitives.factors(modes.reshape(v[0] * d[0], -1), first)
        b, c = _primitives.factors(rest.reshape(first * v[1] * d[1], v[2] * d[2]), second)
        state = {
            "a": a.reshape(v[0], d[0], first),
            "b": b.reshape(first, v[1], d[1], second).transpose(1, 0, 2, 3),
            "c": c.reshape(second, v[2], d[2]).transpose(1, 0, 2),
            "shape": _primitives.shape(rows_VD),
        }
        return replace(self, state={key: np.ascontiguousarray(array) for key, array in state.items()})

    def lookup(self, ids_N: Any) -> Floats:
        """One slice of each core, multiplied."""
        ids = _primitives.asked(self, ids_N)
        a, b, c = (self.state[core] for core in "abc")
        i, rest = np.divmod(ids, len(b) * len(c))
        j, k = np.divmod(rest, len(c))
        left = np.einsum("ndr,nres->ndes", a[i], b[j])
        rows: Floats = np.einsum("ndes,nsf->ndef", left, c[k]).reshape(len(ids), int(self.state["shape"][1]))
        return rows

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·(v₁d₁r₁ + r₁v₂d₂r₂ + r₂v₃d₃)."""
        return 4 * _floats(rows, dim, *self._ranks(rows, dim, budget))

    nbytes = property(_primitives.nbytes)

    def _ranks(self, rows: int, dim: int, budget: float) -> tuple[int, int]:
        """The largest rank that fits, cut to what the modes can have."""
        allowed = _primitives.allowance(budget, rows, dim) // 4
        _primitives.refuse_below(4 * _floats(rows, dim, 1, 1), self, budget, rows, dim)
        v, d = _radix(rows, whole=False), _radix(dim, whole=True)
        most = (v[0] * d[0], v[2] * d[2])
        fitting = [rank for rank in range(1, max(most) + 1) if _floats(rows, dim, *_cut(rank, most)) <= allowed]
        return _cut(fitting[-1], most)


def _cut(rank: int, most: tuple[int, int]) -> tuple[int, int]:
    return min(rank, most[0]), min(rank, most[1])


def _floats(rows: int, dim: int, first: int, second: int) -> int:
    v, d = _radix(rows, whole=False), _radix(dim, whole=True)
    return v[0] * d[0] * first + first * v[1] * d[1] * second + second * v[2] * d[2]


def _radix(size: int, *, whole: bool) -> tuple[int, int, int]:
    """Three nearly equal factors of a size, or of the next size that has such.

    >>> _radix(24, whole=True), _radix(100, whole=False)
    ((3, 2, 4), (5, 5, 4))
    """
    if not whole:
        first = -(-round(size ** (1 / 3) * 1e6) // 10**6)
        second = -(-round((size / first) ** 0.5 * 1e6) // 10**6)
        return first, second, -(-size // (first * second))
    low = max(each for each in range(1, round(size ** (1 / 3)) + 1) if size % each == 0)
    rest = size // low
    middle = max(each for each in range(1, int(rest**0.5 + 1e-9) + 1) if rest % each == 0)
    return low, middle, rest // middle
