"""The bottleneck memories of a library's items, in a table of their own: a row that moves does not rewrite its memory.

They are written before the rows they belong to and deleted after them: a row always has its memory, and what a killed
writer has left without a row goes with the next compaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btoks.library import filters
from btoks.library.schema import pa
from btoks.library.settings import TABLE
from btoks.library.tables import Table, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

    from btoks.condensation import Memory

_COLUMNS = {"id": pa.string(), "memory": pa.large_binary()}
_PIECE, _BYTES = 1_000, 64 << 20


class Memories:
    """Memories by the ids of their items, made for the rows in a table of this name."""

    def __init__(self, database: Any, rows: str = TABLE) -> None:
        self._table = Table(database, "memories" + rows.removeprefix(TABLE), lambda: list(_COLUMNS))

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    @property
    def table(self) -> Any:
        """The table itself, for its upkeep; None while there is none."""
        return self._table.opened

    def put(self, held: Mapping[str, bytes]) -> None:
        """Keep memories, in commits of a size that is held at ease."""
        if not held:
            return
        table = self.table or self._table.make(pa.schema(_COLUMNS))
        if not table.list_indices():  # also where whoever made the table was killed before this
            from lancedb.index import BTree

            table.create_index("id", config=BTree(), name="id_idx")
        names, step = list(held), max(1, _BYTES // max(map(len, held.values())))
        for start in range(0, len(names), step):
            piece = names[start : start + step]
            upsert(table, pa.table({"id": piece, "memory": [held[name] for name in piece]}, pa.schema(_COLUMNS)), "id")

    def get(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The memories of some items; one that has none is left out."""
        found = self._table.rows(filters.one_of("id", list(ids)), None) if ids else None
        return {} if found is None else {row["id"]: row["memory"] for row in found.to_pylist()}

    def delete(self, ids: Sequence[str]) -> None:
        """Forget memories."""
        for start in range(0, len(ids) if self.table is not None else 0, _PIECE):
            self.table.delete(filters.one_of("id", list(ids[start : start + _PIECE])))

    def sweep(self, ids: set[str]) -> None:
        """Forget the memories of all but some items."""
        found = self._table.rows(None, ["id"])
        if found is not None:
            self.delete(sorted(set(found.column(0).to_pylist()) - ids))

    def stats(self) -> dict[str, int]:
        """How many there are, and the bytes of one; all have the same shape."""
        first: Any = self._table.read(lambda table: table.search().select(["memory"]).limit(1).to_arrow(), None)
        if first is None or not first.num_rows:
            return {"memories": 0, "bytes_per_memory": 0}
        count = self._table.read(lambda table: int(table.count_rows()), 0)
        return {"memories": count, "bytes_per_memory": len(first.column(0)[0].as_py())}


def to_bytes(memory: Memory) -> bytes:
    """A memory as safetensors: nothing of it can run, and it comes back exactly."""
    from safetensors.torch import save

    named = {name: getattr(memory, name) for name in memory.__dataclass_fields__}
    out: bytes = save({name: each.contiguous() for name, each in named.items() if each is not None})
    return out


def from_bytes(data: bytes) -> Memory:
    """The memory that was kept."""
    from safetensors.torch import load

    from btoks.condensation import Memory

    return Memory(**load(data))


def require(model: SentenceTransformer) -> None:
    """Refuse a model that leaves no memory that can be read."""
    from btoks.condensation import memory

    memory(model, model.preprocess([{"text": "a"}]))
