"""What `btoks embed` writes: JSON lines, Parquet or NumPy, row by row, and a file is there whole or not at all.

`.npy` is one float32 array (N, D); its ids and paths stand beside it, in the same order, in `.ids.jsonl`.
"""

from __future__ import annotations

import importlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from btoks.cli.rows import Row

_GROUP = 1024  # rows of a Parquet row group, the most that is held in memory


class Writer(Protocol):
    """Takes embeddings one by one."""

    def add(self, row: Row, vector_D: NDArray[np.float32]) -> None:
        """Write one embedding."""

    def close(self) -> None:
        """Write what is left."""


def line(row: Row, vector_D: NDArray[np.float32]) -> str:
    """One embedding as a JSON line; nine digits give a float32 back exactly."""
    return json.dumps({"id": row.id, "path": row.path, "embedding": [float(f"{x:.9g}") for x in vector_D.tolist()]})


def check(path: Path) -> None:
    """Refuse a path that cannot be written, before any work is done."""
    if path.suffix not in _WRITERS:
        raise BtoksError(str(path), "no such output format", f"end it in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise BtoksError(str(path), f"no folder {path.parent}", "make it first")
    if path.is_dir():
        raise BtoksError(str(path), "a folder stands there", "choose another name")


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A writer by the file's suffix; an error on the way leaves whatever stood there before.

    >>> with writing(Path("vectors.npy")) as writer:  # doctest: +SKIP
    ...     writer.add(row, vector_D)
    """
    check(path)
    parts = {each: each.with_name(f".{each.name}.part-{os.getpid()}") for each in _files(path)}
    try:
        writer = _WRITERS[path.suffix](*parts.values())
        try:
            yield writer
        finally:
            writer.close()
        for each, part in parts.items():
            part.replace(each)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path.with_suffix(".ids.jsonl"), path] if path.suffix == ".npy" else [path]


class _Lines:
    def __init__(self, part: Path) -> None:
        self.file = part.open("w", encoding="utf-8")

    def add(self, row: Row, vector_D: NDArray[np.float32]) -> None:
        self.file.write(line(row, vector_D) + "\n")

    def close(self) -> None:
        self.file.close()


class _Npy:
    """NumPy leaves room in the header for a first axis of any length, so the count is filled in at the end."""

    def __init__(self, ids: Path, part: Path) -> None:
        self.ids, self.file = ids.open("w", encoding="utf-8"), part.open("wb")
        self.count, self.dim = 0, 0

    def add(self, row: Row, vector_D: NDArray[np.float32]) -> None:
        if not self.count:
            self.dim = len(vector_D)
            self._header()
        self.count += 1
        self.file.write(vector_D.astype("<f4").tobytes())
        self.ids.write(json.dumps({"id": row.id, "path": row.path}) + "\n")

    def close(self) -> None:
        self.ids.close()
        self.file.seek(0)
        self._header()
        self.file.close()

    def _header(self) -> None:
        shape = (self.count, self.dim)
        np.lib.format.write_array_header_1_0(self.file, {"descr": "<f4", "fortran_order": False, "shape": shape})


class _Parquet:
    def __init__(self, part: Path) -> None:
        self.part = part
        self.writer: Any = None
        self.held: list[tuple[Row, NDArray[np.float32]]] = []

    def add(self, row: Row, vector_D: NDArray[np.float32]) -> None:
        self.held.append((row, vector_D))
        if len(self.held) == _GROUP:
            self._flush()

    def close(self) -> None:
        if self.held:
            self._flush()
        if self.writer is not None:
            self.writer.close()

    def _flush(self) -> None:
        pa, pq = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))

        vectors_ND = np.stack([vector_D for _, vector_D in self.held])
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1])
        ids, paths = ([getattr(row, name) for row, _ in self.held] for name in ("id", "path"))
        names = pa.array(ids, pa.string()), pa.array(paths, pa.string())
        group = pa.table([*names, embedding], names=["id", "path", "embedding"])
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.part, group.schema)
        self.writer.write_table(group)
        self.held.clear()


_WRITERS: dict[str, Any] = {".npy": _Npy, ".parquet": _Parquet, ".jsonl": _Lines}
