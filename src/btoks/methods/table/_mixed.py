"""Groups of rows with widths of their own: a group of width d < D keeps d numbers a row and a map (d, D) back to D."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


def groups(rows: int, count: int) -> list[slice]:
    """Groups by rank of use, each twice as long as the one before, the first the most used.

    >>> [group.stop for group in groups(70, 3)]
    [10, 30, 70]
    """
    ends = [round(rows * (2**place - 1) / (2**count - 1)) for place in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends) if end > start]


def nbytes(rows: int, width: int, dim: int) -> int:
    """4·d·(V + D), or 4·V·D for the full width, which needs no map."""
    return 4 * rows * dim if width >= dim else 4 * width * (rows + dim)


def stored(table_VD: Floats, parts: list[slice], widths: list[int]) -> State:
    """The best factors of each group, one after the other in two flat arrays."""
    narrow, maps = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for part, width in zip(parts, widths, strict=True):
        if width >= table_VD.shape[1]:
            narrow.append(table_VD[part].ravel())
        else:
            left, right = _primitives.factors(table_VD[part], width)
            narrow.append(left.ravel())
            maps.append(right.ravel())
    return {"narrow": np.concatenate(narrow), "maps": np.concatenate(maps), "shape": _primitives.shape(table_VD)}


def lookup(state: State, ids: _primitives.Ids, parts: list[slice], widths: list[int]) -> Floats:
    """Narrow numbers times the map of their group."""
    dim = int(state["shape"][1])
    rows_ND = np.empty((len(ids), dim), np.float32)
    at = map_at = 0
    for part, width in zip(parts, widths, strict=True):
        inside = (ids >= part.start) & (ids < part.stop)
        count = part.stop - part.start
        narrow = state["narrow"][at : at + count * width].reshape(count, width)[ids[inside] - part.start]
        at += count * width
        if width < dim:
            narrow = narrow @ state["maps"][map_at : map_at + width * dim].reshape(width, dim)
            map_at += width * dim
        rows_ND[inside] = narrow
    return rows_ND


def total(parts: list[slice], widths: Any, dim: int) -> int:
    """Bytes of all groups."""
    return sum(nbytes(part.stop - part.start, int(width), dim) for part, width in zip(parts, widths, strict=True))
