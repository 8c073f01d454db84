"""Rows of Parquet and Arrow files, their columns named as in every table, by what the `datasets` library notes of them.

A dataset says which column is a picture or a class, whatever the column's name; a text goes by its name.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.library.schema import pa

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEDIA = {"image": "Image", "video": "Video"}
_TEXTS = ("caption", "captions", "description", "content", "sentence", "passage", "document", "question", "title")
_PIECE = 256
SIDE = ({"state.json", "dataset_info.json"}, {"dataset_dict.json"})
"""What `save_to_disk` writes beside the rows, and beside the folders of splits."""


def is_arrow(path: str, head: bytes) -> bool:
    """Whether a file is one of Arrow's, as `save_to_disk` writes them."""
    return head.startswith(b"ARROW1") or (path.endswith(".arrow") and head.startswith(b"\xff\xff\xff\xff"))


def rows(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file; broken files raise as pyarrow does, with a ValueError or OSError."""
    with Path(path).open("rb") as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        parquet: Any = importlib.import_module("pyarrow.parquet")
        with parquet.ParquetFile(path) as table:
            yield from _named(table.schema_arrow, table.iter_batches(_PIECE))
        return
    ipc: Any = importlib.import_module("pyarrow.ipc")
    with pa.memory_map(path) as source:
        if head.startswith(b"ARROW1"):
            opened = ipc.open_file(source)
            yield from _named(opened.schema, (opened.get_batch(place) for place in range(opened.num_record_batches)))
        else:
            opened = ipc.open_stream(source)
            yield from _named(opened.schema, opened)


def _named(schema: Any, batches: Any) -> Iterator[dict[str, Any]]:
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names, labels = _names(schema, features), _labels(features)
    for batch in batches:
        for start in range(0, batch.num_rows, _PIECE):
            for row in batch.slice(start, _PIECE).to_pylist():
                row.update({key: _label(row[key], classes) for key, classes in labels.items() if key in row})
                yield {names.get(key, key): value for key, value in row.items()}


def _names(schema: Any, features: dict[str, Any]) -> dict[str, str]:
    """The columns that are called otherwise than what they are."""
    out: dict[str, str] = {}
    for name, sort in _MEDIA.items():
        found = [key for key, about in features.items() if isinstance(about, dict) and about.get("_type") == sort]
        if found and name not in schema.names:
            out[found[0]] = name
    if features and "text" not in schema.names:
        written = {field.name for field in schema if field.type in (pa.string(), pa.large_string())}
        out.update(dict.fromkeys([each for each in _TEXTS if each in written][:1], "text"))
    return out


def _label(value: int | None, classes: list[str]) -> str | None:
    """The name of a class; unlabelled rows hold -1."""
    return classes[value] if value is not None and 0 <= value < len(classes) else None


def _labels(features: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the classes of each column that holds classes."""
    classes = {key: about for key, about in features.items() if isinstance(about, dict)}
    return {key: about["names"] for key, about in classes.items() if about.get("_type") == "ClassLabel"}
