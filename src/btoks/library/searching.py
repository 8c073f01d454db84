"""A search from its question to its hits: a query's vector, scores by what unrelated queries reach, the ranking."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library import calibration, filters, ranking, settings
from btoks.library.vectors import unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from btoks.library.asking import Asked, Asker, Query
    from btoks.library.interface import Store
    from btoks.library.objects import Home
    from btoks.library.ranking import Hit


class Levels:
    """What unrelated queries of each kind reach in a library; measured anew when it has changed."""

    def __init__(self, folder: Home, noted: settings.Settings) -> None:
        self._folder, self._noted = folder, noted
        self._measured: dict[str | None, tuple[int, dict[str, calibration.Level]]] = {}
        self._turn = threading.Lock()

    def of(self, store: Store, kind: str | None) -> dict[str, calibration.Level]:
        """The level of each kind of item, for queries of text or, with a kind, for queries that are such items."""
        version = store.version
        with self._turn:
            if self._measured.get(kind, (None, {}))[0] != version:
                sample, totals = store.sample(calibration.SAMPLE), store.kinds()
                levels = None if kind is None else calibration.of_items(kind, sample, totals)
                levels = levels or calibration.of_queries(settings.queries(self._folder, self._noted), sample, totals)
                self._measured[kind] = version, levels
            return self._measured[kind][1]


def search(
    store: Store,
    model: Callable[[], Asker],
    levels: Levels,
    query: Query | None,
    k: int,
    where: str | None,
    min_score: float | None,
    *,
    hybrid: bool,
    group: str | None,
    like: str | Sequence[str] | None,
    without: Query | Sequence[Query] | None,
) -> list[Hit]:
    """The best hits by score, then id, as `Library.search` describes them."""
    _positive(k)
    where, liked = filters.prepared(where), [like] if isinstance(like, str) else list(like or ())
    asked = _asked(store, model, query, liked, without)
    least = calibration.DEFAULT if min_score is None else min_score
    reached = levels.of(store, asked.kind)
    if hybrid and not store.full_text:
        raise BtoksError("hybrid search", "the library's store has no full text", "leave hybrid out")
    if hybrid and not asked.words:
        raise BtoksError("hybrid search", "the query has no text", "add one, or leave hybrid out")

    def nearest(reach: int) -> ranking.Ranking:
        found = ranking.calibrated(store, asked.vector_D, reach, where, reached)
        return [each for each in found if each[1] >= least]

    def with_text(reach: int) -> ranking.Ranking:
        deep = ranking.depth(reach)
        near = [name for name, _ in nearest(deep)]
        return ranking.fused(near, store.find(asked.words, deep, where))[:reach]

    excluded = frozenset(row["content"] for row in store.by("id", liked, ["content"]))
    ask, by_file = (with_text if hybrid else nearest), _grouped(group)
    return ranking.hits(store, ask, k, group=by_file, without=excluded, words=asked.words)


def search_vector(store: Store, vector_D: ArrayLike, k: int, where: str | None) -> list[Hit]:
    """The k items nearest to a vector, whose score is (1 + cosine) / 2."""
    _positive(k)
    query_D = unit(np.asarray(vector_D, np.float32)[None], ["the query"], store.dim)[0]
    condition = filters.prepared(where)

    def nearest(reach: int) -> ranking.Ranking:
        found = store.search(query_D, reach, condition)
        return [(name, min(max((1 + cosine) / 2, 0.0), 1.0)) for name, cosine in found]

    return ranking.hits(store, nearest, k)


def _asked(store: Store, model: Callable[[], Asker], query: Query | None, liked: list[str], without: Any) -> Asked:
    rows = store.by("id", liked, ["id", "kind", "vector"])
    missing = sorted(set(liked) - {row["id"] for row in rows})
    if missing:
        raise BtoksError(f"item {missing[0]!r}", "the library has none of this id", "take the id of a hit")
    vectors = [np.asarray(row["vector"], np.float32) for row in rows]
    return model().ask(query, vectors, rows[0]["kind"] if rows else None, without)


def _positive(k: int) -> None:
    if k < 1:
        raise BtoksError(f"k={k}", "it asks for nothing", "pass at least 1")


def _grouped(group: str | None) -> bool:
    if group not in (None, "file"):
        raise BtoksError(f"group={group!r}", "there is no such group", "pass 'file' or None")
    return group == "file"
