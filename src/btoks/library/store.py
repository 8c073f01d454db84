"""Where a library keeps its rows: one LanceDB table, behind the interface that `interface.py` states.

A row is one searchable part; its id is made of its content, so writing it again changes nothing. Below
`EXACT_BELOW` rows a search reads one array in memory, above it an index of the store's; codes are always in memory.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library import background, filters, quantized, schema, upkeep
from btoks.library.objects import nbytes
from btoks.library.quantized import Codec, CodeScan
from btoks.library.scan import Scan
from btoks.library.schema import pa
from btoks.library.settings import Settings
from btoks.library.tables import Table, connected, upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btoks.library.objects import Home
    from btoks.library.schema import Row

    Vectors = NDArray[np.float32]

EXACT_BELOW = 50_000
_PROBES, _ALL_PROBES = 32, 1_000_000
_EXTRA = 16
"""So many more rows are asked for, for ties to be decided by our own order."""
_REFINE = 10
"""So many times more rows are read, where the index holds no more than a few bits of each."""
_RESCORED, _LEAST = 8, 64
_WRITE, _ASK = 8_192, 1_000


class LanceStore:
    """Rows in one LanceDB table, made by the first write, which sets the vectors' dimension."""

    full_text = True

    def __init__(self, folder: Home, noted: Settings | None = None) -> None:
        self._folder, self._noted = folder, noted or Settings(None)
        self._rows = Table(connected(folder), self._noted.table, self.columns)
        self._scan: Scan | CodeScan | None = None
        self._turn = threading.Lock()

    @property
    def table(self) -> Any:
        """The table itself, for its upkeep; None while there is none."""
        return self._rows.opened

    @cached_property
    def codec(self) -> Codec | None:
        """What the vectors are compressed with; None while they are float32."""
        return None if self._noted.codebooks is None else Codec.load(self._folder / self._noted.codebooks)

    @property
    def dim(self) -> int | None:
        """The vectors' dimension; None while there are none."""
        if self.codec is not None:
            return self.codec.dim
        return None if self.table is None else schema.dim(self.table.schema.field("vector").type, self._noted.states)

    @property
    def version(self) -> int:
        """Changes with every write, whoever writes."""
        return self._rows.read(lambda table: int(table.version), 0)

    @property
    def in_memory(self) -> bool:
        """Whether a search goes through all rows in memory; an index of the store's is asked otherwise."""
        return self.codec is not None or self.count() < EXACT_BELOW

    def columns(self) -> list[str]:
        """The columns that a condition may name."""
        names = list(schema.COLUMNS) if self.table is None else self.table.schema.names
        hidden = (*schema.VECTORS, "thumbnail", "content", "origins", "folders", "years")
        return [name for name in names if name not in hidden]

    def count(self, where: str | None = None) -> int:
        """How many rows there are that a condition holds for."""
        return self._rows.read(lambda table: int(table.count_rows(where)), 0, where)

    def get(self, where: str, columns: Sequence[str] | None = None) -> list[Row]:
        """The rows that a condition holds for; all columns without a choice. A `vector` is decoded if it must be."""
        codec = self.codec
        if codec is None or columns is None or "vector" not in columns:
            found = self._rows.rows(where, columns)
            return [] if found is None else schema.rows(found)
        rows = self.get(where, [codec.finest if name == "vector" else name for name in columns])
        vectors_ND = codec.decoded([row.pop(codec.finest) for row in rows])
        return [{**row, "vector": vector_D} for row, vector_D in zip(rows, vectors_ND, strict=True)]

    def by(self, column: str, values: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """The rows with one of some values, asked for in pieces that the store can digest."""
        return [
            row
            for start in range(0, len(values), _ASK)
            for row in self.get(filters.one_of(column, list(values[start : start + _ASK])), columns)
        ]

    def contents(self) -> set[str]:
        """The contents that are there."""
        found = self._rows.rows(None, ["content"])
        return set() if found is None else set(found.column(0).to_pylist())

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of some rows."""
        return {row["id"]: np.asarray(row["vector"], np.float32) for row in self.by("id", ids, ["id", "vector"])}

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows whole; of two with one id the last counts."""
        unique = list({row["id"]: row for row in rows}.values())
        if unique:
            self._ready(unique)
            for start in range(0, len(unique), _WRITE):
                piece = unique[start : start + _WRITE]
                piece = piece if self.codec is None else self.codec.rows(piece)
                upsert(self.table, schema.arrow(piece, self.table.schema), "id")

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows."""
        before = self.count()
        for start in range(0, len(ids), _ASK):
            if self.table is not None:
                self.table.delete(filters.one_of("id", list(ids[start : start + _ASK])))
        return before - self.count()

    def search(self, vector_D: Vectors, k: int, where: str | None = None) -> list[tuple[str, float]]:
        """The k nearest rows of any kind as (id, cosine)."""
        return self._nearest(vector_D, k, where, [None])[None]

    def nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """The k nearest rows of each kind as (id, cosine)."""
        return {str(kind): found for kind, found in self._nearest(vector_D, k, where, kinds).items()}

    def _nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str | None]
    ) -> dict[str | None, list[tuple[str, float]]]:
        if not self.in_memory:
            return {kind: self.probe(vector_D, k, filters.of_kind(where, kind), _PROBES) for kind in kinds}
        scan, among, codec = self.scan(), None if where is None else self._ids(where), self.codec
        if codec is None or codec.fine is None:
            return {kind: scan.nearest(vector_D, k, kind, among) for kind in kinds}
        found = {kind: scan.nearest(vector_D, max(_RESCORED * k, _LEAST), kind, among) for kind in kinds}
        rows = self.by("id", [name for each in found.values() for name, _ in each], ["id", "fine"])
        fine = {row["id"]: row["fine"] for row in rows}
        candidates = {kind: {name: fine[name] for name, _ in each if name in fine} for kind, each in found.items()}
        return {kind: codec.rescored(vector_D, each)[:k] for kind, each in candidates.items()}

    def probe(self, vector_D: Vectors, k: int, where: str | None, probes: int) -> list[tuple[str, float]]:
        """The k nearest rows by the store's index, where the scores are computed anew, as the exact search does."""
        states = self._noted.states

        def ask(table: Any) -> Any:
            asked, distance = (vector_D, "dot") if states == 1 else (vector_D.reshape(states, -1), "cosine")
            query = table.search(asked, vector_column_name="vector").distance_type(distance)
            # A filter may leave rows only in partitions far away: all are allowed, as many as needed are read.
            query = query.maximum_nprobes(_ALL_PROBES).minimum_nprobes(probes)
            query = query.where(where) if where else query
            query = query.refine_factor(_REFINE) if self._noted.quantize in quantized.INDEXED else query
            return query.select(["id", "vector", "_distance"]).limit(k + _EXTRA).to_arrow()

        found = self._rows.read(ask, None, where)
        return [] if found is None else Scan.of(found, states=states).nearest(vector_D, k)

    def find(self, words: str, k: int, where: str | None = None) -> list[str]:
        """The ids of the rows whose text matches best."""

        def ask(table: Any) -> Any:
            query = table.search(words, query_type="fts", fts_columns="text")
            query = query.where(where) if where else query
            return query.select(["id", "_score"]).limit(k + _EXTRA).to_arrow()

        found = self._rows.read(ask, None, where)
        rows = [] if found is None else found.to_pylist()
        return [row["id"] for row in sorted(rows, key=lambda row: (-row["_score"], row["id"]))[:k]]

    def scan(self) -> Scan | CodeScan:
        """All vectors, or their codes, in memory; read again when the table has changed."""
        with self._turn:
            version = self.version
            if self._scan is None or self._scan.version != version:
                found = self._rows.rows(None, ["id", "kind", "vector" if self.codec is None else "codes"])
                if found is None:
                    self._scan = Scan({}, version)
                elif self.codec is None:
                    self._scan = Scan.of(found, version, self._noted.states)
                else:
                    self._scan = CodeScan.of(found, self.codec, version)
            return self._scan

    def finest(self) -> CodeScan:
        """What the finer copy says of all rows; nobody needs it but to see what the codes miss."""
        found, codec = self._rows.rows(None, ["id", "kind", "fine"]), self.codec
        if found is None or codec is None or codec.fine is None:
            raise BtoksError(str(self._folder), "it keeps no finer copy", "reindex it with rescore")
        return CodeScan.of(found.rename_columns(["id", "kind", "codes"]), Codec(codec.dim, codec.fine), self.version)

    def sample(self, count: int) -> Scan:
        """Vectors spread evenly over the table, and some of every kind; all of them where there are no more."""
        if self.in_memory:
            scan = self.scan()
            return scan.sample(count) if isinstance(scan, CodeScan) else scan
        total, columns = self.count(), ["id", "kind", "vector"]
        places = np.unique(np.linspace(0, total - 1, count).astype(int)).tolist()
        spread = self._rows.read(lambda table: table.take_offsets(places).select(columns).to_arrow(), None)
        kinds = Scan.of(spread, states=self._noted.states).kinds
        for kind in self.kinds().keys() - kinds.keys():
            rare = self._rows.rows(filters.of_kind(None, kind), columns)
            kinds |= Scan.of(rare, states=self._noted.states).kinds
        return Scan(kinds, states=self._noted.states)

    def kinds(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        found = self._rows.rows(None, ["kind"])
        counted = [] if found is None else found.column(0).value_counts().to_pylist()
        return {each["values"]: each["counts"] for each in sorted(counted, key=lambda each: str(each["values"]))}

    def stats(self) -> dict[str, Any]:
        """Rows by kind, the vectors' dimension and what one takes, bytes on disk."""
        kinds = self.kinds()
        return {
            "rows": sum(kinds.values()),
            "kinds": kinds,
            "dim": self.dim,
            "quantize": self._noted.quantize,
            "bytes_per_vector": self.codec.bytes_per_vector if self.codec else 4 * (self.dim or 0),
            "bytes": nbytes(self._folder),
        }

    def tidy(self) -> None:
        """What is due after writing: files are merged here, the index of the vectors is built by another process."""
        if self.table is not None:
            upkeep.merge_small(self.table)
            if upkeep.due(self.table, EXACT_BELOW):
                background.start(self._folder, EXACT_BELOW)

    def ensure(self, types: dict[str, type]) -> None:
        """Add a column for each piece of metadata that has none yet."""
        known = set(self.table.schema.names)
        fresh = [pa.field(name, schema.METADATA[kind]) for name, kind in types.items() if name not in known]
        if fresh:
            self.table.add_columns(pa.schema(fresh))

    def types(self) -> dict[str, Any]:
        """The type of each column that holds metadata."""
        fields = [] if self.table is None else self.table.schema
        known = (*schema.COLUMNS, *schema.VECTORS)
        return {field.name: field.type for field in fields if field.name not in known}

    def _ready(self, rows: list[Row]) -> None:
        """The table, and a column for everything the rows hold."""
        if self.codec is not None and self.count() + len(rows) > quantized.MOST:
            reason = f"a search goes through at most {quantized.MOST:,} codes"
            raise BtoksError(str(self._folder), reason, "reindex it with --quantize ivf_rq")
        wide = len(rows[0].get("vector", ()))  # none in rows that were read as codes, from a table then
        self.prepare(wide, schema.metadata(rows))

    def prepare(self, dim: int, types: dict[str, type]) -> None:
        """The table for vectors of a dimension, and a column for each piece of metadata."""
        if self.table is None:
            vector = pa.field("vector", schema.vector_type(dim, self._noted.states))
            self._rows.make(pa.schema([*schema.COLUMNS.items(), *(self.codec.fields() if self.codec else [vector])]))
        upkeep.prepare(self.table)  # also where whoever made the table was killed before this
        self.ensure(types)

    def _ids(self, where: str) -> Any:
        found = self._rows.rows(where, ["id"])
        return pa.array([], pa.string()) if found is None else found.column(0).combine_chunks()
