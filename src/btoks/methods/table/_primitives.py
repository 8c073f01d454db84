"""What the table methods share: their interface, checked input, budgets and hashes.

Shape suffixes: V rows of the table, D width, N ids asked for, R stored rows.
"""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError
from btoks.methods import card
from btoks.methods.quantize._primitives import matrix

Floats: TypeAlias = NDArray[np.float32]
State: TypeAlias = dict[str, NDArray[Any]]
Ids: TypeAlias = NDArray[np.int64]


@runtime_checkable
class TableMethod(Protocol):
    """The interface of the family. Rows are taken to be in order of use, the most used first, as in a vocabulary."""

    @property
    def state(self) -> State:
        """What was learnt, by name; empty before `fit`."""
        ...

    def fit(self, table_VD: Any, budget: float) -> Self:
        """A new method that stands for the table in at most `budget` (0 … 1) of its float32 bytes."""
        ...

    def lookup(self, ids_N: Any) -> Floats:
        """The rows of these ids (N, D)."""
        ...

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """Bytes after fitting a table of this size, in closed form."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes after fitting, measured; the shape of the table (16 bytes) not counted."""
        ...


def table(table_VD: Any) -> Floats:
    """The table as float32; refuses an empty one."""
    rows_VD = matrix(table_VD, "table")
    if not len(rows_VD):
        raise BtoksError("table", "has no rows", "give at least one")
    return rows_VD


def allowance(budget: float, rows: int, dim: int) -> int:
    """The bytes that a budget allows; refuses one outside (0, 1].

    >>> allowance(0.5, 10, 4)
    80
    """
    if not (isinstance(budget, int | float) and 0 < budget <= 1):
        raise BtoksError("table", f"budget={budget!r}", "give a share of its bytes above 0 and at most 1")
    return int(budget * 4 * rows * dim + 1e-6)


def refuse_below(least: int, method: object, budget: float, rows: int, dim: int) -> None:
    """Refuse a budget that the smallest form of the method does not fit."""
    if least > allowance(budget, rows, dim):
        share = least / (4 * rows * dim)
        way_out = f"give {share:.3f} or more" if share <= 1 else "use another method for so small a table"
        raise BtoksError(name(method), f"budget {budget} of {rows} × {dim} floats is too small", way_out)


def asked(method: TableMethod, ids_N: Any) -> Ids:
    """The ids to look up; refuses what the table does not have."""
    if "shape" not in method.state:
        raise BtoksError(name(method), "not fitted yet", "call fit with a table first")
    raw = ids_N.detach().cpu().numpy() if hasattr(ids_N, "detach") else ids_N
    ids = np.asarray(raw)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise BtoksError("ids", "not a list of whole numbers", "pass row numbers from 0 on")
    rows = int(method.state["shape"][0])
    wrong = np.flatnonzero((ids < 0) | (ids >= rows)) if ids.size else ids
    if len(wrong):
        raise BtoksError(f"id {ids[wrong[0]]}", f"the table has {rows} rows", f"pass ids from 0 to {rows - 1}")
    return ids.astype(np.int64)


def shape(table_VD: Floats) -> NDArray[np.int64]:
    """The table's shape, kept with every fitted method."""
    return np.array(table_VD.shape, np.int64)


def nbytes(method: TableMethod) -> int:
    """Bytes of the fitted state without the shape."""
    return sum(array.nbytes for key, array in method.state.items() if key != "shape")


def hashed(keys: Any, seed: int, size: int) -> Ids:
    """Whole numbers spread over 0 … size − 1 as if by chance: splitmix64, as a linear hash of runs is too even."""
    mixed = np.asarray(keys, np.int64).astype(np.uint64) + np.random.default_rng((seed, 0x7461626C)).integers(
        2**63, dtype=np.uint64
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    places: Ids = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(size)).astype(np.int64)
    return places


def means(values: Floats, place: Ids, size: int) -> Floats:
    """The mean of the rows that share a place (size, …); zero where none does."""
    sums = np.zeros((size, *values.shape[1:]), np.float64)
    np.add.at(sums, place, values)
    count = np.bincount(place, minlength=size).reshape(size, *[1] * (values.ndim - 1))
    return (sums / np.maximum(count, 1)).astype(np.float32)


def name(method: object) -> str:
    """The method's public name, for messages."""
    return f"table method {card(method).name!r}"


def refuse_unless(fine: bool, method: object, reason: str, way_out: str) -> None:
    """Refuse a setting."""
    if not fine:
        raise BtoksError(name(method), reason, way_out)


def check_count(method: object, count: object, setting: str, most: int | None = None) -> None:
    """Refuse anything but a whole number from 1 on."""
    fine = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= (most or count)
    way_out = f"give a whole number from 1 to {most}" if most else "give a whole number ≥ 1"
    refuse_unless(fine, method, f"{setting}={count!r}", way_out)


def factors(table_VD: Floats, rank: int) -> tuple[Floats, Floats]:
    """The best factors (V, r) and (r, D) in squared error; ranks beyond the table's own are zeros."""
    left_VS, size_S, right_SD = np.linalg.svd(table_VD.astype(np.float64), full_matrices=False)
    kept = min(rank, len(size_S))
    left_VR = np.pad(left_VS[:, :kept] * size_S[:kept], ((0, 0), (0, rank - kept)))
    right_RD = np.pad(right_SD[:kept], ((0, rank - kept), (0, 0)))
    return left_VR.astype(np.float32), right_RD.astype(np.float32)
