"""What is known of every file on disk, so that an unchanged one costs a look at its size and time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library import filters
from btoks.library.schema import pa
from btoks.library.tables import upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("root", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("digest", pa.string()),
        ("contents", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
)
_PIECE, _ERRORS = 1_000, 100


@dataclass
class Record:
    """A file: where, how large and how old it was, what it holds, and what is wrong with it."""

    path: str
    root: str
    size: int
    mtime_ns: int
    digest: str
    contents: list[str] = field(default_factory=list)
    error: str | None = None

    def errors(self) -> list[BtoksError]:
        """What is wrong with the file, or with parts of it."""
        return [BtoksError(*each) for each in json.loads(self.error or "[]")]

    def note(self, errors: Sequence[BtoksError]) -> None:
        """Keep what is wrong; of very many errors the first."""
        kept = [(each.item, each.reason, each.way_out) for each in errors[:_ERRORS]]
        self.error = json.dumps(kept) if kept else None


class Records:
    """The table of files, by path."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._opened: Any = None

    @property
    def _table(self) -> Any:
        if self._opened is None and "files" in self._database.list_tables().tables:
            self._opened = self._database.open_table("files")
        return self._opened

    @property
    def table(self) -> Any:
        """The table itself, for its upkeep; None while there is none."""
        return self._table

    def all(self) -> dict[str, Record]:
        """Every file that is known."""
        if self._table is None:
            return {}
        return {row["path"]: Record(**row) for row in self._table.to_arrow().to_pylist()}

    def put(self, records: Sequence[Record]) -> None:
        """Note files, in one commit."""
        if records:
            if self._table is None:
                self._opened = self._database.create_table("files", schema=_SCHEMA)
            rows = {record.path: asdict(record) for record in records}
            upsert(self._table, pa.Table.from_pylist(list(rows.values()), schema=_SCHEMA), "path")

    def delete(self, paths: Sequence[str]) -> None:
        """Forget files."""
        for start in range(0, len(paths) if self._table is not None else 0, _PIECE):
            self._table.delete(filters.one_of("path", list(paths[start : start + _PIECE])))
