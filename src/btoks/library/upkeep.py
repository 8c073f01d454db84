"""Keeping the table quick and small: its indexes, the merging of small files, the removal of what is no longer needed.

All of it needs the library's lock: a clean-up of unverified files beside another writer destroys the table.
"""

from __future__ import annotations

import contextlib
import errno
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.disk import indexing
from btoks.library.objects import home
from btoks.library.tables import connected

if TYPE_CHECKING:
    from btoks.library.objects import Home
    from btoks.library.view import View

_PARTITION = 1_000
"""Rows of a partition. The number of partitions must not be fixed: the next optimisation would change it."""
_FRAGMENTS, _UNINDEXED, _SEGMENTS = 64, 20_000, 10
_KEEP = timedelta(hours=1)
_VECTOR = "vector_idx"


def prepare(table: Any) -> None:
    """The indexes that an empty table can have, unless it has them: full text for every script, and the keys."""
    from lancedb.index import FTS, BTree

    words = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False, with_position=False)
    there = {each.name for each in table.list_indices()}
    for column, config in (("text", words), ("id", BTree()), ("content", BTree())):
        if f"{column}_idx" not in there:
            table.create_index(column, config=config, name=f"{column}_idx")


def due(table: Any, exact_below: int) -> bool:
    """Whether the index of the vectors should be built, or built anew."""
    if "vector" not in table.schema.names or table.count_rows() < exact_below:
        return False
    there = next((each for each in table.list_indices() if each.name == _VECTOR), None)
    return there is None or _outgrown(there)


def index(table: Any, exact_below: int, quantize: str | None, *, anew: bool = False) -> None:
    """Build the index of the vectors if it is due, or anew; its bytes are smaller with `ivf_rq` and `ivf_sq`."""
    if due(table, exact_below) or (anew and table.count_rows() >= exact_below):
        from lancedb.index import IvfFlat, IvfRq, IvfSq

        kinds: dict[str | None, Any] = {"ivf_rq": IvfRq, "ivf_sq": IvfSq}
        several = hasattr(table.schema.field("vector").type.value_type, "list_size")
        distance = "cosine" if several else "dot"  # the store knows MaxSim of cosines alone
        config = kinds.get(quantize, IvfFlat)(distance_type=distance, target_partition_size=_PARTITION)
        table.create_index("vector", config=config, name=_VECTOR, replace=True)


def merge_small(table: Any) -> None:
    """Merge files and extend the indexes, once there are many files, or many rows that no index holds."""
    fragments = table.stats()["fragment_stats"]["num_fragments"]
    if fragments > _FRAGMENTS or any(each.num_unindexed_rows > _UNINDEXED for each in table.list_indices()):
        # An index that is being built would be void: it waits for no one, so the files wait for the next time.
        with contextlib.suppress(BtoksError), indexing(home(table.uri.rpartition("/")[0]), wait=0):
            _optimize(table, _KEEP, unverified=False)


def _outgrown(index: Any) -> bool:
    """Whether so much is new that the index should be built anew; its deltas are never merged."""
    return bool(index.num_unindexed_rows >= index.num_indexed_rows or index.num_segments >= _SEGMENTS)


def compact(view: View) -> None:
    """Merge everything and leave nothing of old versions, not even what killed writers have left."""
    from btoks.library.records import Records

    tables = [view.lance.table, Records(connected(view.folder)).table]
    if view.memories is not None:
        view.memories.sweep({row["id"] for row in view.lance.get("id IS NOT NULL", ["id"])})
        tables.append(view.memories.table)
    for table in tables:
        if table is not None:
            # On object storage a writer that lost its lock may still be at it: what nobody has committed stays there.
            _optimize(table, timedelta(0), unverified=isinstance(view.folder, Path))
    if isinstance(view.folder, Path):
        for path in view.folder.rglob("*.tmp*"):  # of killed writers; no clean-up of the store's removes them
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _optimize(table: Any, older: timedelta, *, unverified: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.optimize(cleanup_older_than=older, delete_unverified=unverified)


def explained(error: Exception, folder: Home) -> Exception:
    """What a person is told of an error of the store's while writing, without its own words; others as they are."""
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
        return BtoksError(str(folder), "the disk is full; what was reported as done is saved", "free some space")
    if "lance" in str(error).lower():
        return BtoksError(str(folder), "its table could not be written", "see `btoks library check`")
    return error
