"""Whether a library is whole: rows and files agree, and searches find what an exact one would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.library import filters
from btoks.library.records import Records
from btoks.library.tables import connected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btoks.library.objects import Home
    from btoks.library.store import LanceStore
    from btoks.library.view import View

_QUERIES, _K, _ALL = 64, 10, 1_000_000


def check(folder: Home, store: LanceStore, queries_QD: NDArray[np.float32] | None) -> dict[str, Any]:
    """`missing`: contents of files without rows; `orphans`: rows without a file; `recall`: of the exact 10 nearest.

    Recall is measured with queries of text, which lie farther from pictures than pictures do, kind by kind, as a
    search goes; without a model with stored vectors.
    """
    records = Records(connected(folder)).all()
    contents = {content for record in records.values() for content in record.contents}
    rows = [] if queries_QD is None else store.get("id IS NOT NULL", ["content", "origins"])
    there = {row["content"] for row in rows}
    orphans = sum(not set(row["origins"] or ()) <= records.keys() for row in rows)
    kinds = store.kinds()
    return {
        "rows": sum(kinds.values()),
        "files": len(records),
        "missing": len(contents - there),
        "orphans": orphans,
        "exact": store.in_memory,
        "recall": _recall(store, list(kinds), _stored(store) if queries_QD is None else queries_QD),
    }


def stats(view: View) -> dict[str, Any]:
    """Files, those that are bad, rows by kind, memories, bytes."""
    known = Records(connected(view.folder)).all()
    bad = sum(record.error is not None for record in known.values())
    kept = {} if view.memories is None else view.memories.stats()
    about = {"path": str(view.folder), "model": view.noted.model, "files": len(known), "bad_files": bad}
    return {**about, **view.store.stats(), **kept}


def _stored(store: LanceStore) -> NDArray[np.float32]:
    kinds = store.sample(_QUERIES).kinds.values()
    return np.concatenate([vectors_ND[:_QUERIES] for _, vectors_ND in kinds]) if kinds else np.empty((0, 1), np.float32)


def _recall(store: LanceStore, kinds: list[str], queries_QD: NDArray[np.float32]) -> float | None:
    """The share of the nearest by all that is stored that a search finds; None for an empty library."""
    rescored = store.codec is not None and store.codec.fine is not None
    if not kinds or (store.in_memory and not rescored):
        return 1.0 if kinds else None
    finest = store.finest() if rescored else None
    found = wanted = 0
    for query_D in queries_QD[:_QUERIES]:
        searched = store.nearest(query_D, _K, None, kinds)
        for kind in kinds:
            if finest is not None:
                nearest = finest.nearest(query_D, _K, kind)
            else:
                nearest = store.probe(query_D, _K, filters.of_kind(None, kind), _ALL)
            exact = {name for name, _ in nearest}
            found += len(exact & {name for name, _ in searched[kind]})
            wanted += len(exact)
    return found / wanted if wanted else None
