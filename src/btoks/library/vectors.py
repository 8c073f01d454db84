"""Vectors brought along: checked at the border, since the store would lose or refuse bad ones without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library.names import from_text, to_text
from btoks.library.rows import Place, conform, placed
from btoks.library.schema import RESERVED

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from btoks.library.schema import Row

_GIVEN = {"kind": str, "page": int, "start": float, "end": float, "text": str, "path": str, "folder": str, "year": int}
KIND = "vector"
"""The kind of an item that names none."""


def unit(vectors_ND: Any, names: Sequence[str], dim: int | None) -> NDArray[np.float32]:
    """The vectors with length one; refused are those of another dimension, without a direction, or not finite."""
    if vectors_ND.ndim != 2 or vectors_ND.shape[1] == 0:
        raise BtoksError("vectors", f"their shape is {vectors_ND.shape}", "give one row a vector")
    if dim is not None and vectors_ND.shape[1] != dim:
        reason = f"they have {vectors_ND.shape[1]} dimensions, the library's have {dim}"
        raise BtoksError("vectors", reason, "use vectors of one model")
    lengths_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths_N) | (lengths_N == 0))
    if len(bad):
        raise BtoksError(names[bad[0]], "its vector is zero or not finite", "leave it out")
    out: NDArray[np.float32] = (vectors_ND / lengths_N[:, None]).astype(np.float32)
    return out


def rows_of(
    ids: Sequence[str],
    vectors: ArrayLike,
    metadata: Sequence[Mapping[str, Any]] | None,
    dim: int | None,
    types: dict[str, type],
) -> list[Row]:
    """Rows of vectors and what is known of them."""
    names = list(ids)
    if not all(isinstance(name, str) and name for name in names):
        raise BtoksError("ids", "not all of them are texts", "give a text for each vector")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise BtoksError(f"id {twice!r}", "it is given twice", "give each id once")
    vectors_ND = np.asarray(vectors, np.float32)
    known = [{}] * len(names) if metadata is None else list(metadata)
    if not len(names) == len(vectors_ND) == len(known):
        reason = f"{len(names)} ids, {len(vectors_ND)} vectors and {len(known)} of metadata"
        raise BtoksError("vectors", reason, "give as many of each")
    if not names:
        return []
    units_ND = unit(vectors_ND, names, dim)
    return [
        {**_row(name, given, types), "vector": vector_D}
        for name, given, vector_D in zip(names, known, units_ND, strict=True)
    ]


def _row(name: str, given: Mapping[str, Any], types: dict[str, type]) -> Row:
    own = conform({key: value for key, value in given.items() if key in _GIVEN}, dict(_GIVEN), name)
    others = {key: value for key, value in given.items() if key not in _GIVEN}
    for key in others:
        if key in RESERVED or key != key.lower() or not (key.isascii() and key.isidentifier()):
            raise BtoksError(f"metadata {key!r}", "it cannot be a column", "use another name, in small letters")
    row = {"id": to_text(name), "content": to_text(name), "kind": KIND, **own, **conform(others, types, name)}
    if "path" in own:
        path = to_text(from_text(own["path"]))
        row = placed(row, [Place(path, path, own.get("folder", ""), own.get("year", 0))])
        row.update({key: own.get(key) for key in ("folder", "year")})
    return row
