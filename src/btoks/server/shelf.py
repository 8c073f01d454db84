"""A library as it is served: read only, what is costly computed once for each of its versions."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from btoks.library import filters
from btoks.library.asking import Asked
from btoks.library.names import shown
from btoks.library.records import Record, Records
from btoks.library.schema import COLUMNS
from btoks.library.searching import search
from btoks.library.tables import connected
from btoks.server.problems import ProblemError
from btoks.server.schemas import Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btoks.library import Hit, Library
    from btoks.library.interface import Store
    from btoks.library.schema import Row
    from btoks.library.view import View

_T = TypeVar("_T")
_POINTS, _FOLDERS = 4_000, 1_000
_MAPPED = ("id", "kind", "path", "page", "start", "end", "text", "folder", "year")
_BEGINNING = 240
"""So much of a passage is told with its point."""
_KINDS = (None, "image", "video", "pdf")


class Shelf:
    """A library with its name and, if it has one, its model."""

    def __init__(self, name: str, library: Library) -> None:
        self.name, self.library = name, library
        self._known: dict[str, tuple[tuple[View, int], Any]] = {}
        self._turns = {name: threading.Lock() for name in ("facets", "map", "stats")}
        self._warm: tuple[View, int] | None = None

    @property
    def store(self) -> Store:
        """The rows as they are now."""
        return self.library.view.store

    @property
    def model(self) -> str | None:
        """The name of its model, if it has one."""
        of = self.library.view.noted.model
        return of and named(of)

    def row(self, item: str) -> Row:
        """What is stored of an item, but for its vector and thumbnail."""
        columns = [*(name for name in COLUMNS if name != "thumbnail"), *self.store.types()]
        found = self.store.by("id", [item], columns)
        if not found:
            raise ProblemError(404, "the library has no such item")
        return found[0]

    def asked(self, items: Sequence[str]) -> list[Asked]:
        """Items as queries, by their ids."""
        vectors = self.store.vectors(items)
        if len(vectors) < len(set(items)):
            raise ProblemError(404, "the library has no such item")
        return [Asked(vectors[item]) for item in items]

    def pages(self, row: Row) -> int | None:
        """How many pages the file of an item has; None for what has none."""
        if row["page"] is None:
            return None
        return max(each["page"] or 1 for each in self.store.by("content", [row["content"]], ["page"]))

    def record(self, origin: str) -> Record | None:
        """What the library knows of a file on disk."""
        table = Records(connected(self.library.path)).table
        if table is None:
            return None
        found = table.search().where(filters.one_of("path", [origin])).limit(1).to_list()
        return Record(**found[0]) if found else None

    def stats(self) -> dict[str, Any]:
        """What the library holds and takes, without where it is."""
        facts = self._once("stats", self.library.stats)
        facts = {key: value for key, value in facts.items() if key in Stats.model_fields}
        return {**facts, "name": self.name, "model": self.model}

    def facets(self) -> dict[str, dict[str, int]]:
        """How many items there are by kind, folder and year."""
        return self._once("facets", self._facets)

    def map(self) -> dict[str, Any]:
        """Items in two dimensions, at most some thousands, spread evenly."""
        return self._once("map", self._map)

    def warm(self) -> None:
        """Read what a search needs, if the library has changed since."""
        view = self.library.view
        state = view, view.store.version
        if state == self._warm or view.noted.model is None or view.store.dim is None:
            return
        vector_D = np.zeros(view.store.dim, np.float32)
        vector_D[0] = 1
        for kind in _KINDS:
            found(view, Asked(vector_D, "warm", kind), k=1, hybrid=kind is None and view.store.full_text)
        self._warm = state

    def _once(self, what: str, compute: Callable[[], _T]) -> _T:
        """Computed anew when the library has changed; of several that ask at once one computes."""
        with self._turns[what]:
            view = self.library.view
            state = view, view.store.version
            known = self._known.get(what)
            if known is None or known[0] != state:
                known = self._known[what] = state, compute()
            value: _T = known[1]
            return value

    def _facets(self) -> dict[str, dict[str, int]]:
        rows = self.store.get("id IS NOT NULL", ["kind", "folder", "year"])
        folders = Counter(shown(row["folder"]) for row in rows if row["folder"] is not None)
        years = Counter(str(row["year"]) for row in rows if row["year"] is not None)
        return {
            "kinds": dict(sorted(Counter(str(row["kind"]) for row in rows).items())),
            "folders": dict(sorted(folders.most_common(_FOLDERS))),
            "years": dict(sorted(years.items())),
        }

    def _map(self) -> dict[str, Any]:
        version = self.store.version
        kinds = self.store.sample(_POINTS).kinds if self.store.count() else {}
        ids = [name for names, _ in kinds.values() for name in names.to_pylist()]
        if not ids:
            return {"items": [], "version": version}
        vectors_ND = np.concatenate([vectors_ND for _, vectors_ND in kinds.values()])
        chosen = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), _POINTS)).astype(int))
        points_N2 = projected(vectors_ND[chosen])
        rows = {row["id"]: _point(row) for row in self.store.by("id", [ids[at] for at in chosen], list(_MAPPED))}
        items = [
            {**rows[ids[at]], "x": float(x), "y": float(y)}
            for at, (x, y) in zip(chosen, points_N2, strict=True)
            if ids[at] in rows
        ]
        return {"items": items, "version": version}


def projected(vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """The vectors along their two principal directions, scaled into −1 … 1; the same for the same vectors.

    >>> projected(np.eye(3, 4, dtype=np.float32)).shape
    (3, 2)
    """
    centred_ND = vectors_ND.astype(np.float64) - vectors_ND.mean(axis=0)
    _, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
    directions_D2 = directions_DD[:, ::-1][:, :2]
    largest = np.abs(directions_D2).argmax(axis=0)
    directions_D2 = directions_D2 * np.sign(directions_D2[largest, range(directions_D2.shape[1])])
    points_N2 = np.zeros((len(vectors_ND), 2))
    points_N2[:, : directions_D2.shape[1]] = centred_ND @ directions_D2
    scaled: NDArray[np.float64] = points_N2 / max(float(np.abs(points_N2).max()), 1e-12)
    return scaled


def _point(row: Row) -> Row:
    """What a map tells of an item; of a text its beginning."""
    text = row["text"][:_BEGINNING] if row["kind"] == "text" and row["text"] else None
    return {**row, "path": seen(row["path"]), "folder": seen(row["folder"]), "text": text}


def found(view: View, query: Any, k: int = 10, **options: Any) -> list[Hit]:
    """What `Library.search` finds, in one view of the library: the one whose model has embedded the query."""
    defaults = {"where": None, "min_score": None, "hybrid": False, "group": None, "like": None, "without": None}
    return search(view.store, view.asker, view.levels, query, k, **{**defaults, **options})


def shown_hit(hit: Hit) -> dict[str, Any]:
    """A hit as clients are sent it: a path that is no UTF-8 could not be written as JSON."""
    return {**hit.json(), "path": None if hit.path is None else hit.path.encode("utf-8", "replace").decode()}


def named(model: str) -> str:
    """A model as clients are told of it: a hub id as it is, of a folder the name.

    >>> named("org/model"), named("/models/mine")
    ('org/model', 'mine')
    """
    return Path(model).name if Path(model).is_absolute() else model


def seen(path: str | None) -> str | None:
    """A stored path as clients are shown it."""
    return None if path is None else shown(path)
