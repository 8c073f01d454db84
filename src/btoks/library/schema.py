"""The columns of a library's table, and rows as it takes them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

pa: Any = importlib.import_module("pyarrow")  # its types are not written down
importlib.import_module("pyarrow.compute")
Row = dict[str, Any]
_STRINGS = pa.list_(pa.string())
COLUMNS = {
    "id": pa.string(),
    "content": pa.string(),
    "kind": pa.string(),
    "page": pa.int32(),
    "start": pa.float64(),
    "end": pa.float64(),
    "text": pa.string(),
    "path": pa.string(),
    "folder": pa.string(),
    "year": pa.int32(),
    "paths": _STRINGS,
    "origins": _STRINGS,
    "folders": _STRINGS,
    "years": pa.list_(pa.int32()),
    "thumbnail": pa.binary(),
}
METADATA = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
"""The types that metadata can have."""
VECTORS = ("vector", "codes", "fine")
"""The columns that hold vectors, or what is kept in their place."""
RESERVED = (*COLUMNS, *VECTORS, "score")
"""Names that no metadata can have."""


def arrow(rows: Sequence[Row], schema: Any) -> Any:
    """Rows as a table of the schema; what a row lacks is null."""
    columns = []
    for field in schema:
        if field.name == "vector":
            flat = np.ascontiguousarray(np.stack([row["vector"] for row in rows]), np.float32).reshape(-1)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), field.type.list_size))
        else:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.table(columns, schema=schema)
