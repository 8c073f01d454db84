"""Rows that ids share by hash: the first ids have rows of their own, the others one of those that are left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats

M = TypeVar("M")


def fit(method: M, table_VD: Any, budget: float) -> M:
    """The means of the rows that share a place; with the whole budget every id has its own."""
    rows_VD, settings = _primitives.table(table_VD), _settings(method)
    count = _count(method, len(rows_VD), rows_VD.shape[1], budget)
    stored_RD = _primitives.means(rows_VD, _places(np.arange(len(rows_VD)), len(rows_VD), count, *settings), count)
    fitted: M = replace(method, state={"rows": stored_RD, "shape": _primitives.shape(rows_VD)})  # type: ignore[type-var]
    return fitted


def lookup(method: Any, ids_N: Any) -> Floats:
    """Private or shared rows."""
    ids = _primitives.asked(method, ids_N)
    stored_RD: Floats = method.state["rows"]
    return stored_RD[_places(ids, int(method.state["shape"][0]), len(stored_RD), *_settings(method))]


def bytes_for(method: object, rows: int, dim: int, budget: float) -> int:
    """4·R·D."""
    return 4 * _count(method, rows, dim, budget) * dim


def _settings(method: Any) -> tuple[float, int]:
    return getattr(method, "hot", 0.0), method.seed


def _count(method: object, rows: int, dim: int, budget: float) -> int:
    _primitives.refuse_below(4 * dim, method, budget, rows, dim)
    return _primitives.allowance(budget, rows, dim) // (4 * dim)


def _places(ids: _primitives.Ids, rows: int, count: int, hot: float, seed: int) -> _primitives.Ids:
    if count >= rows:
        return ids
    private = int(hot * count)
    shared: _primitives.Ids = private + _primitives.hashed(ids, seed, count - private)
    return np.where(ids < private, ids, shared)
