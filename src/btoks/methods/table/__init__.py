"""Embedding tables made smaller: `fit(table, budget)` keeps a share of its bytes, `lookup(ids)` gives rows back.

small = methods.create("table", "codebook").fit(table, 0.1)
rows = small.lookup([3, 1, 4])
"""

from pathlib import Path

from btoks.methods import stored
from btoks.methods.stored import save
from btoks.methods.table._primitives import TableMethod

__all__ = ["TableMethod", "load", "save"]


def load(path: str | Path) -> TableMethod:
    """Open a fitted method that `save` wrote."""
    method: TableMethod = stored.load(path, "table")
    return method
