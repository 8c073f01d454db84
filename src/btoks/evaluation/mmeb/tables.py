"""Annotation tables, from a local folder or the hub: Parquet and JSON lines, read row by row."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btoks.evaluation.task import DataError

_ROWS = 32
"""Rows with pictures that are decoded at a time."""
_ENDINGS = (".parquet", ".jsonl", ".json")


class Table:
    """Rows of one or more files, in their order."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._groups: list[tuple[Path, int, int]] | None = None
        self._held: tuple[int, list[Any], Iterator[Any], str] | None = None

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows, of Parquet only the named columns (those that are there)."""
        for file in self.files:
            if file.suffix != ".parquet":
                yield from _json_rows(file)
                continue
            held = _parquet(file)
            wanted = None if columns is None else [each for each in columns if each in held.schema_arrow.names]
            for batch in held.iter_batches(columns=wanted):
                yield from batch.to_pylist()

    def cell(self, index: int, column: str) -> Any:
        """One cell of a Parquet table; cheap for neighbours read in order, and never more than a few rows in memory."""
        if self._held is None or self._held[3] != column or index < self._held[0]:
            self._open(index, column)
        while self._held is not None and index >= self._held[0] + len(self._held[1]):
            start, values, rest, _ = self._held
            batch = next(rest, None)
            if batch is None:
                self._open(index, column)
            else:
                self._held = start + len(values), batch.column(0).to_pylist(), rest, column
        assert self._held is not None  # noqa: S101  (for mypy)
        return self._held[1][index - self._held[0]]

    def key(self) -> str:
        """The content of the files."""
        total = hashlib.blake2b(digest_size=8)
        for file in self.files:
            with file.open("rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()

    def _open(self, index: int, column: str) -> None:
        """Start reading at the row group that holds a row."""
        if self._groups is None:
            counts = ((file, _parquet(file).metadata) for file in self.files)
            self._groups = [
                (file, group, data.row_group(group).num_rows)
                for file, data in counts
                for group in range(data.num_row_groups)
            ]
        start = 0
        for file, group, count in self._groups:
            if index < start + count:
                rest = _parquet(file).iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
                self._held = start, [], rest, column
                return
            start += count
        raise IndexError(index)


@dataclass(frozen=True)
class Repository:
    """A folder of tables and what it is: a hub commit, or nothing for a local one."""

    folder: Path
    name: str
    commit: str | None = None

    def table(self, config: str | None, split: str) -> Table:
        """The files of a configuration's split."""
        for pattern in patterns(self.folder, config, split):
            files = [file for file in sorted(self.folder.glob(pattern)) if file.suffix in _ENDINGS]
            if files:
                return Table(files)
        what = f"no table of {config or 'its only configuration'}, split {split}"
        raise DataError(self.name, f"{what}, below {self.folder}", "complete the folder")


def patterns(folder: Path, config: str | None, split: str) -> list[str]:
    """Where a split's files may lie: what the README says, then the usual places.

    >>> patterns(Path("/nowhere"), "qrels", "test")[0]
    'qrels/test-*'
    """
    homes = [config, f"data/{config}"] if config else ["data", "default", "."]
    usual = [f"{home}/{split}{end}".removeprefix("./") for home in homes for end in ("-*", ".*", "/*")]
    return [*_declared(folder / "README.md", config, split), *usual]


def _declared(readme: Path, config: str | None, split: str) -> list[str]:
    from huggingface_hub import metadata_load

    if not readme.is_file():
        return []
    configs = (metadata_load(readme) or {}).get("configs") or []
    chosen = next((each for each in configs if each.get("config_name") == (config or "default")), None)
    if chosen is None and config is None and len(configs) == 1:
        chosen = configs[0]
    files = (chosen or {}).get("data_files") or []
    found: list[str] = []
    for each in files if isinstance(files, list) else [{"split": split, "path": files}]:
        paths = each["path"] if isinstance(each, dict) and each["split"] == split else []
        found += [paths] if isinstance(paths, str) else paths
    return found


def _parquet(file: Path) -> Any:
    return importlib.import_module("pyarrow.parquet").ParquetFile(file)


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        if file.suffix == ".json":
            yield from json.load(lines)
        else:
            yield from (json.loads(line) for line in lines if line.strip())
