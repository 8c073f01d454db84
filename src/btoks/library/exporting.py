"""A library's items as files for other programs: Parquet with their vectors, and lines of JSON."""

from __future__ import annotations

import importlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from btoks.errors import BtoksError
from btoks.library.names import from_text
from btoks.library.schema import VECTORS, pa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btoks.library.schema import Row
    from btoks.library.store import LanceStore

_NAMES = ("items.parquet", "items.jsonl")
_PIECE = 1_000
_INNER = ("content", "origins", "folders", "years", "thumbnail", *VECTORS)


class _Writer(Protocol):
    def write(self, rows: list[Row]) -> None: ...

    def close(self) -> None: ...


def export(store: LanceStore, target: str | Path) -> list[Path]:
    """Write all items, by id, to a file ending in .parquet or .jsonl, or to one of each in a folder."""
    target = Path(target)
    files = [target] if target.suffix in (".parquet", ".jsonl") else [target / name for name in _NAMES]
    if len(files) > 1 and target.suffix and not target.is_dir():
        raise BtoksError(str(target), "it is neither .parquet nor .jsonl", "end the name so, or name a folder")
    columns = [field for field in ([] if store.table is None else store.table.schema) if field.name not in _INNER]
    try:
        with ExitStack() as stack:
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
            parts = [file.with_name(f".{file.name}.{os.getpid()}.part") for file in files]
            for part in parts:
                stack.callback(part.unlink, missing_ok=True)
            writers = [_writer(part, file.suffix, columns, store.dim) for part, file in zip(parts, files, strict=True)]
            for rows in _rows(store, [field.name for field in columns]):
                for writer in writers:
                    writer.write(rows)
            for writer, part, file in zip(writers, parts, files, strict=True):
                writer.close()
                part.replace(file)
    except OSError as error:
        raise BtoksError(str(target), f"it cannot be written ({error.strerror})", "choose another place") from error
    return files


def _rows(store: LanceStore, columns: list[str]) -> Iterator[list[Row]]:
    ids = sorted(row["id"] for row in store.get("id IS NOT NULL", ["id"]))
    for start in range(0, len(ids), _PIECE):
        found = store.by("id", ids[start : start + _PIECE], [*columns, "vector"])
        yield sorted(found, key=lambda row: str(row["id"]))


def _writer(path: Path, suffix: str, columns: list[Any], dim: int | None) -> _Writer:
    return _Parquet(path, columns, dim) if suffix == ".parquet" else _Lines(path)


class _Parquet:
    def __init__(self, path: Path, columns: list[Any], dim: int | None) -> None:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        self._schema = pa.schema([*columns, ("vector", pa.list_(pa.float32(), dim or 1))])
        self._file = parquet.ParquetWriter(path, self._schema)

    def write(self, rows: list[Row]) -> None:
        self._file.write_table(pa.Table.from_pylist(rows, self._schema))

    def close(self) -> None:
        self._file.close()


class _Lines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            vector = np.asarray(row["vector"], np.float32).tolist()
            shown = {key: _shown(key, value) for key, value in row.items() if key != "vector"}
            self._file.write(json.dumps({**shown, "vector": vector}) + "\n")

    def close(self) -> None:
        self._file.close()


def _shown(key: str, value: Any) -> Any:
    """Paths as the system takes them, as in a hit."""
    if key == "path":
        return None if value is None else from_text(value)
    return [from_text(each) for each in value] if key == "paths" and value else value
