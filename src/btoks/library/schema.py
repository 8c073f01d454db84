"""The columns of a library's table, and rows as it takes them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def metadata(rows: Sequence[Row]) -> dict[str, type]:
    """What rows hold beside the columns that every library has, with the types."""
    types: dict[str, type] = {}
    for row in rows:
        types.update({name: type(value) for name, value in row.items() if value is not None})
    return {name: kind for name, kind in types.items() if name not in (*COLUMNS, *VECTORS)}


def arrow(rows: Sequence[Row], schema: Any) -> Any:
    """Rows as a table of the schema; what a row lacks is null."""
    columns = []
    for field in schema:
        if field.name == "vector":
            columns.append(_stacked(np.stack([row["vector"] for row in rows]), field.type))
        else:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.table(columns, schema=schema)


def vector_type(dim: int, states: int) -> Any:
    """The type of the column of vectors; of `states` vectors side by side it is a list of them, for MaxSim."""
    one = pa.list_(pa.float32(), dim // states)
    return one if states == 1 else pa.list_(one)


def dim(kind: Any, states: int) -> int:
    """The numbers of an item in a column of vectors."""
    return states * int((kind if states == 1 else kind.value_type).list_size)


def rows(table: Any) -> list[Row]:
    """A table's rows, the vectors of an item side by side."""
    found: list[Row] = table.to_pylist()
    several = "vector" in table.schema.names and pa.types.is_list(table.schema.field("vector").type)
    return [{**row, "vector": np.ravel(row["vector"])} for row in found] if several else found


def flat(vectors: Any, states: int) -> NDArray[np.float32]:
    """A column of vectors as an array (N, D), all of an item side by side."""
    width = dim(vectors.type, states)
    inner = vectors if states == 1 else vectors.flatten()
    out: NDArray[np.float32] = inner.flatten().to_numpy(zero_copy_only=False)
    return out.reshape(-1, width)


def _stacked(vectors_ND: NDArray[np.float32], kind: Any) -> Any:
    values = pa.array(np.ascontiguousarray(vectors_ND, np.float32).reshape(-1))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(values, kind.list_size)
    several = pa.FixedSizeListArray.from_arrays(values, kind.value_type.list_size)
    ends = np.linspace(0, len(several), len(vectors_ND) + 1).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), several)
