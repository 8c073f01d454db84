"""A library's rows in Qdrant: on a server, or in the library's folder by the client's own local mode.

The row is the point's payload, the id of a point is made of the row's. Files, settings and the lock stay in the
library's folder. What LanceDB alone has, versions, codes, full text, exports, is refused in a line.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import threading
import uuid
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library import conditions, schema
from btoks.library.disk import replace_file
from btoks.library.objects import nbytes
from btoks.library.scan import Scan
from btoks.library.schema import pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from btoks.library.schema import Row
    from btoks.library.settings import Settings

    Vectors = NDArray[np.float32]

URL, KEY = "QDRANT_URL", "QDRANT_API_KEY"
_COLUMNS = "columns.json"
_HIDDEN = ("thumbnail", "content", "origins", "folders", "years")
_INDEXED = {"id": "keyword", "content": "keyword", "kind": "keyword", conditions.ABOVE: "keyword", "year": "integer"}
_WRITE, _ASK, _EXTRA, _SOME = 256, 1_000, 16, 64
_clients: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_turn = threading.RLock()


def address() -> dict[str, Any]:
    """Where a new library's rows go: to the server that QDRANT_URL names, each to a collection of its own."""
    require()
    url = os.environ.get(URL)
    return {"url": url, "table": f"btoks-{uuid.uuid4().hex[:16]}"} if url else {"url": None}


def require() -> None:
    """Refuse where the client is not installed."""
    try:
        import qdrant_client  # noqa: F401
    except ImportError as error:
        raise BtoksError("qdrant", "its client is not installed", "pip install 'btoks[qdrant]'") from error


class QdrantStore:
    """Rows as the points of one collection, made by the first write, which sets the vectors' dimension."""

    full_text = False

    def __init__(self, folder: Path, noted: Settings) -> None:
        self._folder, self._url, self._name = folder, noted.url, noted.table
        self._writes = 0
        self._opened: Any = None

    @property
    def dim(self) -> int | None:
        """The vectors' dimension."""
        return int(self._ask("get_collection").config.params.vectors.size) if self._there() else None

    @property
    def version(self) -> int:
        """Another one after a write of this process, and with another number of rows, whoever writes."""
        return (self.count() << 20) + self._writes

    def columns(self) -> list[str]:
        """The columns that a condition may name."""
        return [name for name in (*schema.COLUMNS, *self.types()) if name not in _HIDDEN]

    def count(self, where: str | None = None) -> int:
        """How many rows there are that a condition holds for."""
        if not self._there():
            return 0
        return int(self._ask("count", count_filter=self._filter(where), exact=True).count)

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows; of two with one id the last counts."""
        unique = list({row["id"]: row for row in rows}.values())
        if not unique:
            return
        self._ready(unique)
        from qdrant_client import models

        for start in range(0, len(unique), _WRITE):
            points = [
                models.PointStruct(id=_point(row["id"]), vector=row["vector"].tolist(), payload=_packed(row))
                for row in unique[start : start + _WRITE]
            ]
            self._ask("upsert", points=points, wait=True)
        self._writes += 1

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows."""
        if not ids or not self._there():
            return 0
        from qdrant_client import models

        before = self.count()
        for start in range(0, len(ids), _ASK):
            points: list[Any] = [_point(name) for name in ids[start : start + _ASK]]
            self._ask("delete", points_selector=models.PointIdsList(points=points), wait=True)
        self._writes += 1
        return before - self.count()

    def get(self, where: str, columns: Sequence[str] | None = None) -> list[Row]:
        """The rows that a condition holds for; all columns without a choice."""
        return list(self._scrolled(self._filter(where), columns)) if self._there() else []

    def by(self, column: str, values: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """The rows with one of some values."""
        if not values or not self._there():
            return []
        from qdrant_client import models

        rows: list[Row] = []
        for start in range(0, len(values), _ASK):
            wanted = models.MatchAny(any=list(values[start : start + _ASK]))
            condition = models.Filter(must=[models.FieldCondition(key=column, match=wanted)])
            rows += self._scrolled(condition, columns)
        return rows

    def contents(self) -> set[str]:
        """The contents that are there."""
        return {row["content"] for row in self.get("id IS NOT NULL", ["content"])}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of some rows."""
        return {row["id"]: row["vector"] for row in self.by("id", ids, ["id", "vector"])}

    def search(self, vector_D: Vectors, k: int, where: str | None = None) -> list[tuple[str, float]]:
        """The k nearest rows of any kind as (id, cosine)."""
        return self._nearest(vector_D, k, where, None)

    def nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """The k nearest rows of each kind as (id, cosine)."""
        return {kind: self._nearest(vector_D, k, where, kind) for kind in kinds}

    def find(self, words: str, k: int, where: str | None = None) -> list[str]:
        """Refused: Qdrant filters by words, but does not rank by them."""
        raise BtoksError("full text", "the library's store has none", "search without hybrid")

    def sample(self, count: int) -> Scan:
        """Vectors in the order of the points' ids, which is that of a hash, and some of every kind."""
        kinds = {}
        for kind, total in self.kinds().items():
            share = max(round(count * total / max(self.count(), 1)), min(total, _SOME))
            rows = list(self._scrolled(self._filter(None, kind), ["id", "vector"], most=share))
            kinds[kind] = pa.array([row["id"] for row in rows]), np.stack([row["vector"] for row in rows])
        return Scan(kinds, self.version)

    def kinds(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        if not self._there():
            return {}
        hits = self._ask("facet", key="kind", exact=True, limit=_ASK).hits
        return {str(each.value): each.count for each in sorted(hits, key=lambda each: str(each.value))}

    def types(self) -> dict[str, Any]:
        """The type of each column that holds metadata; they are kept in a file, since points have no columns."""
        kinds = {kind.__name__: arrow for kind, arrow in schema.METADATA.items()}
        return {name: kinds[kind] for name, kind in self._noted().items()}

    def stats(self) -> dict[str, Any]:
        """Rows by kind, the vectors' dimension and what one takes, bytes in the folder; a server's are not known."""
        kinds, dim = self.kinds(), self.dim
        return {
            "rows": sum(kinds.values()),
            "kinds": kinds,
            "dim": dim,
            "quantize": None,
            "bytes_per_vector": 4 * (dim or 0),
            "bytes": nbytes(self._folder),
        }

    def tidy(self) -> None:
        """Nothing is due: Qdrant looks after its own files."""

    def _nearest(self, vector_D: Vectors, k: int, where: str | None, kind: str | None) -> list[tuple[str, float]]:
        if not self._there():
            return []
        options = {"query_filter": self._filter(where, kind), "limit": k + _EXTRA, "with_payload": ["id"]}
        found = self._ask("query_points", query=vector_D.tolist(), **options).points
        return sorted(((each.payload["id"], each.score) for each in found), key=lambda each: (-each[1], each[0]))[:k]

    def _filter(self, where: str | None, kind: str | None = None) -> Any:
        return conditions.both(where, kind, self.columns())

    def _scrolled(self, condition: Any, columns: Sequence[str] | None, most: int | None = None) -> Iterator[Row]:
        """Rows page by page, by the ids of their points."""
        names = list(columns) if columns else [*schema.COLUMNS, *self.types(), "vector"]
        fields, offset, left = [name for name in names if name != "vector"], None, most
        while left is None or left > 0:
            limit = _ASK if left is None else min(_ASK, left)
            options = {"limit": limit, "offset": offset, "with_payload": fields, "with_vectors": "vector" in names}
            found, offset = self._ask("scroll", scroll_filter=condition, **options)
            for each in found:
                row = {name: each.payload.get(name) for name in fields}
                if row.get("thumbnail") is not None:
                    row["thumbnail"] = base64.b64decode(row["thumbnail"])
                yield {**row, "vector": np.asarray(each.vector, np.float32)} if "vector" in names else row
            left = None if left is None else left - len(found)
            if offset is None:
                return

    def _ready(self, rows: list[Row]) -> None:
        """The collection, and a note of every column the rows hold."""
        if not self._there():
            from qdrant_client import models

            size = models.VectorParams(size=len(rows[0]["vector"]), distance=models.Distance.DOT)
            self._ask("create_collection", vectors_config=size)
            for name, kind in _INDEXED.items() if self._url else ():
                self._ask("create_payload_index", field_name=name, field_schema=kind)
        known = self._noted()
        fresh = {name: kind.__name__ for name, kind in schema.metadata(rows).items() if name not in known}
        if fresh:
            replace_file(self._folder / _COLUMNS, json.dumps({**known, **fresh}).encode())

    def _noted(self) -> dict[str, str]:
        path = self._folder / _COLUMNS
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return known

    def _there(self) -> bool:
        return bool(self._ask("collection_exists"))

    def _ask(self, call: str, **options: Any) -> Any:
        """Ask the client, one at a time; no message of its own gets out."""
        from qdrant_client.http.exceptions import ApiException

        try:
            with _turn, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self._opened is None:
                    self._opened = _client(self._folder, self._url)
                return getattr(self._opened, call)(self._name, **options)
        except (ApiException, OSError) as error:
            where = self._url or str(self._folder)
            raise BtoksError(where, "Qdrant did not answer as it should", "see whether it runs and is whole") from error


def _client(folder: Path, url: str | None) -> Any:
    """The client of a server, or of a folder: this one may be open once on a machine, so a process shares it."""
    require()
    from qdrant_client import QdrantClient

    where = url or str(folder.absolute() / "qdrant")
    opened = _clients.get(where)
    if opened is None:
        try:
            if url:
                opened = QdrantClient(url=url, api_key=os.environ.get(KEY), check_compatibility=False)
            else:
                opened = QdrantClient(path=where, force_disable_check_same_thread=True)
        except RuntimeError as error:
            reason = "another process has it open, which a Qdrant in a folder allows to one at a time"
            raise BtoksError(str(folder), reason, f"try again later, or run a server and set {URL}") from error
        _clients[where] = opened
        # One that is closed by the end of the interpreter itself would say that it is too late for that.
        atexit.register(_closed, weakref.ref(opened))
    return opened


def _closed(client: weakref.ref[Any]) -> None:
    opened = client()
    if opened is not None:
        opened.close()


def _point(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _packed(row: Row) -> dict[str, Any]:
    """A row as a payload: what it lacks is left out, bytes are text, and the folders above its own are named."""
    out = {key: value for key, value in row.items() if value is not None and key not in schema.VECTORS}
    if "thumbnail" in out:
        out["thumbnail"] = base64.b64encode(out["thumbnail"]).decode()
    parts = str(row["folder"]).split("/") if row.get("folder") else []
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return {**out, conditions.ABOVE: above} if above else out
