"""Where a library keeps its rows: a small interface, and LanceDB behind it.

A row is one searchable part; its id is made of its content, so writing it again changes nothing. Below
`EXACT_BELOW` rows a search reads one array in memory, above it an index of the store's.
"""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from btoks.errors import BtoksError
from btoks.library import filters, schema, upkeep
from btoks.library.scan import Scan
from btoks.library.schema import pa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from btoks.library.schema import Row

    Vectors = NDArray[np.float32]

_T = TypeVar("_T")
EXACT_BELOW = 50_000
_PROBES, _ALL_PROBES = 32, 1_000_000
_EXTRA = 16
"""So many more rows are asked for, for ties to be decided by our own order."""
_WRITE, _ASK = 8_192, 1_000


class Store(Protocol):
    """What is asked of the place where the rows are; scores are cosines, and ties go to the smaller id."""

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows whole; one with a known id takes the old one's place."""

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows, and tell how many there were."""

    def by(self, column: str, values: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """The rows with one of some values; all columns without a choice."""

    def contents(self) -> set[str]:
        """The contents that are there."""

    def nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """The k nearest rows of each kind that a condition holds for, the best first."""

    def find(self, words: str, k: int, where: str | None = None) -> list[str]:
        """The ids of the rows whose text matches best, the best first."""

    def stats(self) -> dict[str, Any]:
        """Rows by kind, vectors' dimension, bytes on disk."""


def connected(folder: Path) -> Any:
    """The database in a folder, always up to date."""
    os.environ.setdefault("LANCE_LOG", "error")  # read at the first import: a line a search on stderr otherwise
    import lancedb

    return lancedb.connect(str(folder), read_consistency_interval=timedelta(0))


def upsert(table: Any, data: Any, key: str) -> None:
    """Write rows by their key, in one commit."""
    table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(data)


def of_kind(where: str | None, kind: str | None) -> str | None:
    """The condition that a row is of a kind, too."""
    return where if kind is None else filters.both(where, f"kind = {filters.quoted(kind)}")


class LanceStore:
    """Rows in one LanceDB table, made by the first write, which sets the vectors' dimension."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._db = connected(folder)
        self._opened: Any = None
        self._scan: Scan | None = None
        self._turn = threading.Lock()

    @property
    def _table(self) -> Any:
        if self._opened is None and "items" in self._db.list_tables().tables:
            self._opened = self._db.open_table("items")
        return self._opened

    @property
    def dim(self) -> int | None:
        """The vectors' dimension; None while there are none."""
        return None if self._table is None else int(self._table.schema.field("vector").type.list_size)

    @property
    def version(self) -> int:
        """Changes with every write, whoever writes."""
        return 0 if self._table is None else int(self._table.version)

    def columns(self) -> list[str]:
        """The columns that a condition may name."""
        names = list(schema.COLUMNS) if self._table is None else self._table.schema.names
        hidden = ("vector", "thumbnail", "content", "origins", "folders", "years")
        return [name for name in names if name not in hidden]

    def count(self, where: str | None = None) -> int:
        """How many rows there are that a condition holds for."""
        return self._read(lambda table: int(table.count_rows(where)), 0, where)

    def get(self, where: str, columns: Sequence[str] | None = None) -> list[Row]:
        """The rows that a condition holds for; all columns without a choice."""
        return self._rows(where, columns).to_pylist() if self._table is not None else []

    def by(self, column: str, values: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """The rows with one of some values, asked for in pieces that the store can digest."""
        return [
            row
            for start in range(0, len(values), _ASK)
            for row in self.get(filters.one_of(column, list(values[start : start + _ASK])), columns)
        ]

    def contents(self) -> set[str]:
        """The contents that are there."""
        return set() if self._table is None else set(self._rows(None, ["content"]).column(0).to_pylist())

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of some rows."""
        return {row["id"]: np.asarray(row["vector"], np.float32) for row in self.by("id", ids, ["id", "vector"])}

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows whole; of two with one id the last counts."""
        unique = list({row["id"]: row for row in rows}.values())
        if unique:
            self._ready(unique)
            for start in range(0, len(unique), _WRITE):
                upsert(self._table, schema.arrow(unique[start : start + _WRITE], self._table.schema), "id")

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows."""
        before = self.count()
        for start in range(0, len(ids), _ASK):
            if self._table is not None:
                self._table.delete(filters.one_of("id", list(ids[start : start + _ASK])))
        return before - self.count()

    def search(self, vector_D: Vectors, k: int, where: str | None = None) -> list[tuple[str, float]]:
        """The k nearest rows of any kind as (id, cosine)."""
        if self.count() < EXACT_BELOW:
            return self.scan().nearest(vector_D, k, None, None if where is None else self._ids(where))
        return self.probe(vector_D, k, where, _PROBES)

    def nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """The k nearest rows of each kind as (id, cosine)."""
        if self.count() < EXACT_BELOW:
            scan, among = self.scan(), None if where is None else self._ids(where)
            return {kind: scan.nearest(vector_D, k, kind, among) for kind in kinds}
        return {kind: self.probe(vector_D, k, of_kind(where, kind), _PROBES) for kind in kinds}

    def probe(self, vector_D: Vectors, k: int, where: str | None, probes: int) -> list[tuple[str, float]]:
        """The k nearest rows by the store's index, where the scores are computed anew, as the exact search does."""

        def ask(table: Any) -> Any:
            query = table.search(vector_D, vector_column_name="vector").distance_type("dot")
            # A filter may leave rows only in partitions far away: all are allowed, as many as needed are read.
            query = query.maximum_nprobes(_ALL_PROBES).minimum_nprobes(probes)
            query = query.where(where) if where else query
            return query.select(["id", "vector", "_distance"]).limit(k + _EXTRA).to_arrow()

        found = self._read(ask, None, where)
        return [] if found is None else Scan.of(found).nearest(vector_D, k)

    def find(self, words: str, k: int, where: str | None = None) -> list[str]:
        """The ids of the rows whose text matches best."""

        def ask(table: Any) -> Any:
            query = table.search(words, query_type="fts", fts_columns="text")
            query = query.where(where) if where else query
            return query.select(["id", "_score"]).limit(k + _EXTRA).to_arrow()

        found = self._read(ask, None, where)
        rows = [] if found is None else found.to_pylist()
        return [row["id"] for row in sorted(rows, key=lambda row: (-row["_score"], row["id"]))[:k]]

    def scan(self) -> Scan:
        """All vectors in memory, read again when the table has changed."""
        with self._turn:
            version = self.version
            if self._scan is None or self._scan.version != version:
                columns = ["id", "kind", "vector"]
                empty = pa.table({"id": pa.array([], pa.string()), "kind": [], "vector": []})
                self._scan = Scan.of(empty if version == 0 else self._rows(None, columns), version)
            return self._scan

    def sample(self, count: int) -> Scan:
        """Vectors spread evenly over the table, and some of every kind; all of them where there are no more."""
        total, columns = self.count(), ["id", "kind", "vector"]
        if total < EXACT_BELOW:
            return self.scan()
        places = np.unique(np.linspace(0, total - 1, count).astype(int)).tolist()
        spread = Scan.of(self._read(lambda table: table.take_offsets(places).select(columns).to_arrow(), None))
        rare = [kind for kind in self.kinds() if kind not in spread.kinds]
        found = {kind: Scan.of(self._rows(of_kind(None, kind), columns)).kinds[kind] for kind in rare}
        return Scan({**spread.kinds, **found})

    def kinds(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        if self._table is None:
            return {}
        counted = self._rows(None, ["kind"]).column(0).value_counts().to_pylist()
        return {each["values"]: each["counts"] for each in sorted(counted, key=lambda each: str(each["values"]))}

    def stats(self) -> dict[str, Any]:
        """Rows by kind, the vectors' dimension, bytes on disk."""
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        kinds = self.kinds()
        return {
            "rows": sum(kinds.values()),
            "kinds": kinds,
            "dim": self.dim,
            "bytes": sum(path.stat().st_size for path in files),
        }

    def ensure(self, types: dict[str, type]) -> None:
        """Add a column for each piece of metadata that has none yet."""
        known = set(self._table.schema.names)
        fresh = [pa.field(name, schema.METADATA[kind]) for name, kind in types.items() if name not in known]
        if fresh:
            self._table.add_columns(pa.schema(fresh))

    def types(self) -> dict[str, Any]:
        """The type of each column that holds metadata."""
        fields = [] if self._table is None else self._table.schema
        return {
            field.name: field.type for field in fields if field.name not in schema.COLUMNS and field.name != "vector"
        }

    @property
    def table(self) -> Any:
        """The table itself, for its upkeep; None while there is none."""
        return self._table

    def _ready(self, rows: list[Row]) -> None:
        """The table, and a column for everything the rows hold."""
        if self._table is None:
            vector = pa.list_(pa.float32(), len(rows[0]["vector"]))
            columns = pa.schema([*schema.COLUMNS.items(), ("vector", vector)])
            self._opened = self._db.create_table("items", schema=columns)
        upkeep.prepare(self._table)  # also where whoever made the table was killed before this
        types: dict[str, type] = {}
        for row in rows:
            types.update({name: type(value) for name, value in row.items() if value is not None})
        self.ensure({name: kind for name, kind in types.items() if name not in schema.COLUMNS and name != "vector"})

    def _ids(self, where: str) -> Any:
        return self._rows(where, ["id"]).column(0).combine_chunks()

    def _rows(self, where: str | None, columns: Sequence[str] | None) -> Any:
        def ask(table: Any) -> Any:
            query = table.search().select(list(columns or table.schema.names))
            query = query.where(where) if where else query
            return query.limit(max(table.count_rows(), 1)).to_arrow()

        return self._read(ask, None, where)

    def _read(self, ask: Callable[[Any], _T], nothing: Any, where: str | None = None) -> _T:
        """Ask the table; once more if it was cleaned up under the question. No message of the engine's gets out."""
        table = self._table
        if table is None:
            return nothing  # type: ignore[no-any-return]
        try:
            try:
                return ask(table)
            except (RuntimeError, OSError, ValueError) as error:
                if "not found" not in str(error).lower():
                    raise
                table.checkout_latest()
                return ask(table)
        except (RuntimeError, OSError, ValueError) as error:
            if where is not None and isinstance(error, ValueError):
                raise filters.refusal(where, str(error), self.columns()) from error
            raise BtoksError("library", "its table cannot be read", "see `btoks library check`") from error
