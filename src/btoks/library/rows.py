"""Rows of the table from what was found: where each content is, in how many places, and how it is shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.names import from_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from btoks.library.parts import Part
    from btoks.library.schema import Row

_TYPES = {"bool": bool, "int64": int, "double": float, "string": str}


@dataclass(frozen=True, order=True)
class Place:
    """Where a content is: its path, the file on disk that holds it, its folder below the root, its year."""

    path: str
    origin: str
    folder: str
    year: int


def row_of(content: str, part: Part, metadata: Mapping[str, Any]) -> Row:
    """The row of a part, still without a vector and without a place."""
    return {
        "id": content + part.suffix,
        "content": content,
        "kind": part.kind,
        "page": part.page,
        "start": part.start,
        "end": part.end,
        "text": part.text,
        "thumbnail": part.thumbnail,
        **metadata,
    }


def places_of(row: Row) -> set[Place]:
    """Every place of a row's content."""
    if not row.get("paths"):
        return set()
    columns = (row[name] for name in ("paths", "origins", "folders", "years"))
    return {Place(*each) for each in zip(*columns, strict=True)}


def placed(row: Row, places: Iterable[Place]) -> Row:
    """The row at its places, in order of their paths; it is shown at the first."""
    ordered = sorted(places)
    first = ordered[0]
    return {
        **row,
        "path": first.path,
        "folder": first.folder,
        "year": first.year,
        "paths": [each.path for each in ordered],
        "origins": [each.origin for each in ordered],
        "folders": [each.folder for each in ordered],
        "years": [each.year for each in ordered],
    }


def folder_of(path: str, root: str) -> str:
    """The folder of a file relative to its root, empty for the root itself.

    >>> folder_of("/photos/trips/2020/a.jpg", "/photos"), folder_of("/photos/a.jpg", "/photos")
    ('trips/2020', '')
    """
    return path.rpartition("/")[0][len(root) :].strip("/")


def exists(path: str) -> bool:
    """Whether something is there, be it a link to nothing."""
    return os.path.lexists(from_text(path))


def types_of(arrow: Mapping[str, Any]) -> dict[str, type]:
    """The Python types of columns of metadata."""
    return {name: _TYPES[str(kind)] for name, kind in arrow.items()}


def conform(metadata: Mapping[str, Any], types: dict[str, type], where: str) -> dict[str, Any]:
    """Metadata in the types of its columns; the first value of a new one sets its type.

    >>> conform({"size": 3}, {"size": float}, "row 1")
    {'size': 3.0}
    """
    out = {}
    for name, value in metadata.items():
        if value is None:
            continue
        value = value.item() if hasattr(value, "item") else value
        if type(value) not in _TYPES.values():
            raise BtoksError(where, f"{name} is a {type(value).__name__}", "give a text, a number or true or false")
        kind = types.setdefault(name, type(value))
        try:
            fits = kind(value)
        except ValueError:
            fits = None
        if fits is None or (kind is not str and fits != value):
            raise BtoksError(where, f"{name} is {value!r}", f"its column holds {kind.__name__}, give such")
        out[name] = fits
    return out
