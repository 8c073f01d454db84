"""Vectors with their names, from a file or a library, and labels: which of them are right for which query."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError

Labels = Mapping[str, Mapping[str, float]]
SAMPLE = 41_000
_LINE = 'write lines such as {"query": "q1", "relevant": ["d3", "d7"]}'


@dataclass(frozen=True, eq=False)
class Collection:
    """Rows, their ids (row numbers where a file has none), and how many there are in all if these are a sample.

    >>> Collection(np.zeros((3, 2), np.float32)).names
    ['0', '1', '2']
    """

    rows_ND: NDArray[np.float32]
    ids: Sequence[str] | None = None
    total: int | None = None

    def __len__(self) -> int:
        return len(self.rows_ND) if self.total is None else self.total

    @property
    def names(self) -> list[str]:
        """The ids."""
        return [str(row) for row in range(len(self.rows_ND))] if self.ids is None else list(self.ids)


def is_library(path: str | Path) -> bool:
    """Whether a path is a library's folder."""
    return (Path(path) / "library.json").is_file()


def read(path: str | Path, wanted: Sequence[str] = ()) -> Collection:
    """Vectors from `.npy`, from `.parquet` as `btoks embed` writes it, or from a library.

    Of a large library a sample is read, in which the `wanted` ids are.
    """
    path = Path(path)
    if is_library(path):
        return _library(path, wanted)
    if path.suffix not in (".npy", ".parquet"):
        reason = "neither a library nor vectors by its name"
        raise BtoksError(str(path), reason, "pass a library, or a .npy or .parquet file such as btoks embed writes")
    if not path.is_file():
        raise BtoksError(str(path), "no such file", "pass a .npy or .parquet file")
    try:
        if path.suffix == ".npy":
            return Collection(np.load(path, mmap_mode="r", allow_pickle=False))
        return _parquet(path)
    except (OSError, ValueError, KeyError) as error:
        raise BtoksError(str(path), f"cannot be read ({error})", "write it again") from error


def labels(path: str | Path) -> dict[str, dict[str, float]]:
    """What is relevant for each query: JSON lines `{"query": id, "relevant": [ids] or {id: gain}}`."""
    found: dict[str, dict[str, float]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BtoksError(str(path), f"cannot be read ({error})", _LINE) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            query, relevant = _label(f"{path} line {number}", line)
            found.setdefault(query, {}).update(relevant)
    if not found:
        raise BtoksError(str(path), "it holds no labels", _LINE)
    return found


def _label(where: str, line: str) -> tuple[str, dict[str, float]]:
    try:
        given = json.loads(line)
        relevant = given["relevant"]
        gains = relevant if isinstance(relevant, dict) else dict.fromkeys(map(str, relevant), 1.0)
        found = {name: float(gain) for name, gain in gains.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise BtoksError(where, f"not a label ({error})", _LINE) from error
    if not (found and all(np.isfinite(gain) and gain > 0 for gain in found.values())):
        raise BtoksError(where, "nothing relevant, or a gain that is not above 0", _LINE)
    return str(given["query"]) if "query" in given else _no_query(where), found


def _no_query(where: str) -> str:
    raise BtoksError(where, "no query named", _LINE)


def _parquet(path: Path) -> Collection:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    columns = [name for name in ("id", "embedding") if name in parquet.read_schema(path).names]
    table = parquet.read_table(path, columns=columns)
    vectors = table["embedding"].combine_chunks()
    width = len(vectors[0]) if len(vectors) else 0
    rows_ND = np.asarray(vectors.flatten(), np.float32).reshape(len(vectors), width)
    return Collection(rows_ND, [str(each) for each in table["id"].to_pylist()] if "id" in columns else None)


def _library(path: Path, wanted: Sequence[str]) -> Collection:
    from btoks.library import Library

    store = Library.open(path).view.lance
    if store.codec is not None:
        way_out = "run `btoks reindex --quantize float32` first, or measure a copy that is not compressed"
        raise BtoksError(str(path), "its vectors are compressed already: there is no exact order", way_out)
    rows = {row["id"]: np.asarray(row["vector"], np.float32) for row in store.by("id", list(wanted), ["id", "vector"])}
    for ids, vectors_ND in store.sample(SAMPLE).kinds.values():
        rows.update(zip(ids.to_pylist(), vectors_ND, strict=True))
    if not rows:
        raise BtoksError(str(path), "there is nothing in it", "index something first")
    return Collection(np.stack(list(rows.values())), list(rows), store.count())
