"""A library: files of every kind, embedded once, found by anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from btoks.errors import BtoksError
from btoks.library import calibration, filters, ranking, settings, store, upkeep
from btoks.library.disk import Syncer, writing
from btoks.library.rows import types_of
from btoks.library.vectors import rows_of, unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike
    from sentence_transformers import SentenceTransformer

    from btoks.library.asking import Asked, Asker, Query
    from btoks.library.ingest import Report
    from btoks.library.ranking import Hit

_WAIT = 60.0


class Library:
    """Opened with `Library.open`, made with `Library.create`; threads may share one.

    >>> library = Library.create("photos.library")  # doctest: +SKIP
    >>> library.add(["photos"])  # doctest: +SKIP
    >>> library.search("a dog on the beach", where="year >= 2020")  # doctest: +SKIP
    """

    def __init__(self, folder: Path, noted: settings.Settings, *, device: str | None = None) -> None:
        self.path = folder
        self._noted, self._device = noted, device
        self._store = store.LanceStore(folder)
        self._syncer = Syncer(folder)
        self._asker: Asker | None = None
        self._measured: dict[str | None, tuple[int, dict[str, calibration.Level]]] = {}
        self._turn = threading.Lock()

    @classmethod
    def create(cls, path: str | Path, *, model: str | Path | None = "btoks-mini", device: str | None = None) -> Library:
        """Make a library in a new or empty folder; `model=None` is for vectors that are brought along."""
        folder = Path(path)
        opened = None
        if model is not None:
            from btoks.folder import load

            opened = load(model, device=device)
            model = _name(model)
        library = cls(folder, settings.create(folder, model, opened), device=device)
        if opened is not None:
            library._asker = _asker(opened)
        return library

    @classmethod
    def open(cls, path: str | Path, *, device: str | None = None) -> Library:
        """Open a library; its model is loaded when a query or a new file first needs it."""
        return cls(Path(path), settings.read(Path(path)), device=device)

    def made_with(self, model: str | Path) -> bool:
        """Whether the library's model has this name or folder."""
        return self._noted.model == _name(model)

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        prune: bool = False,
        force: bool = False,
        progress: Callable[[Report], Any] | None = None,
        wait: float = _WAIT,
        waiting: Callable[[str], Any] | None = None,
    ) -> Report:
        """Bring the library up to date with files and folders: new and changed files are embedded, nothing else.

        With `prune`, files that are gone from the paths are forgotten; that is refused, without `force`, where a path
        is missing or more than half of its files are gone. Bad files are in the report's `errors`.
        """
        from btoks.library.commit import Book
        from btoks.library.ingest import Ingest
        from btoks.library.reading import Reader
        from btoks.library.records import Records

        self._needs_model("add_vectors")
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        with self._writing(wait, waiting):
            settings.refuse_other_parts(self.path, self._noted)
            book = Book(self._store, Records(store.connected(self.path)), self._syncer)
            types = types_of(self._store.types())
            with Reader(book, lambda: self._model().model, types) as reader:
                run = Ingest(book, reader, progress)
                report = run.run([os.fspath(path) for path in given], prune=prune, force=force)
            book.tidy()
            return report

    def add_vectors(
        self,
        ids: Sequence[str],
        vectors_ND: ArrayLike,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        wait: float = _WAIT,
    ) -> int:
        """Add vectors made elsewhere, or put them in the place of those with the same ids.

        Only for a library without a model; the first vectors set the dimension. All are stored with length one.
        Metadata is columns of a hit (`kind`, `path`, `text`, `year`, …) and others, which filters can name.
        """
        if self._noted.model is not None:
            raise BtoksError(str(self.path), f"its vectors are those of {self._noted.model}", "use add")
        with self._writing(wait):
            types = types_of(self._store.types())
            rows = rows_of(ids, vectors_ND, metadata, self._store.dim, types)
            self._store.put(rows)
        return len(rows)

    def remove(self, ids: Iterable[str], *, wait: float = _WAIT) -> int:
        """Forget items by their ids, and tell how many there were; the files stay as they are."""
        with self._writing(wait):
            return self._store.delete(list(dict.fromkeys(ids)))

    def search(
        self,
        query: Query | None = None,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        group: Literal["file"] | None = None,
        like: str | Sequence[str] | None = None,
        without: Query | Sequence[Query] | None = None,
    ) -> list[Hit]:
        """The best hits by score, then id.

        A query is a text, a `Source` or path, a mapping of `text`, `image` and `video`, or a list of (query, weight);
        `like` adds items of the library by id, `without` is what the hits should not be like. `where` is a condition
        in SQL. The default of `min_score` leaves out what queries about absent things would find as well; 0 keeps
        all. `hybrid` adds what full text finds, whatever its score, and ranks by both.
        """
        self._needs_model("search_vector")
        _positive(k)
        where, liked = filters.prepared(where), [like] if isinstance(like, str) else list(like or ())
        asked = self._ask(query, liked, without)
        least = calibration.DEFAULT if min_score is None else min_score
        levels = self._levels(asked.kind)
        if hybrid and not asked.words:
            raise BtoksError("hybrid search", "the query has no text", "add one, or leave hybrid out")

        def nearest(reach: int) -> ranking.Ranking:
            found = ranking.calibrated(self._store, asked.vector_D, reach, where, levels)
            return [each for each in found if each[1] >= least]

        def with_text(reach: int) -> ranking.Ranking:
            deep = ranking.depth(reach)
            near = [name for name, _ in nearest(deep)]
            return ranking.fused(near, self._store.find(asked.words, deep, where))[:reach]

        excluded = frozenset(row["content"] for row in self._store.by("id", liked, ["content"]))
        ask, by_file = (with_text if hybrid else nearest), _grouped(group)
        return ranking.hits(self._store, ask, k, group=by_file, without=excluded, words=asked.words)

    def search_vector(self, vector_D: ArrayLike, k: int = 10, where: str | None = None) -> list[Hit]:
        """The k items nearest to a vector, whose score is (1 + cosine) / 2."""
        _positive(k)
        query_D = unit(np.asarray(vector_D, np.float32)[None], ["the query"], self._store.dim)[0]
        condition = filters.prepared(where)

        def nearest(reach: int) -> ranking.Ranking:
            found = self._store.search(query_D, reach, condition)
            return [(name, min(max((1 + cosine) / 2, 0.0), 1.0)) for name, cosine in found]

        return ranking.hits(self._store, nearest, k)

    def thumbnail(self, item: str) -> bytes | None:
        """A small JPEG of an item, by its id; None for a text, and for what is not there."""
        found = self._store.by("id", [item], ["thumbnail"])
        return found[0]["thumbnail"] if found else None

    def stats(self) -> dict[str, Any]:
        """What the library holds, and what it takes."""
        from btoks.library.records import Records

        known = Records(store.connected(self.path)).all()
        return {
            "path": str(self.path),
            "model": self._noted.model,
            "files": len(known),
            "bad_files": sum(record.error is not None for record in known.values()),
            **self._store.stats(),
        }

    def check(self) -> dict[str, Any]:
        """Whether rows and files agree, and how many of the exact 10 nearest a search finds (recall)."""
        from btoks.library.checking import check

        return check(self.path, self._store, None if self._noted.model is None else settings.queries(self.path))

    def compact(self, *, wait: float = _WAIT) -> None:
        """Merge small files and remove from disk what is no longer needed: deleted items, old states, killed writes."""
        from btoks.library.records import Records

        with self._writing(wait):
            for table in (self._store.table, Records(store.connected(self.path)).table):
                if table is not None:
                    upkeep.merge(table)
            upkeep.remove_parts(self.path)

    @contextmanager
    def _writing(self, wait: float, waiting: Callable[[str], Any] | None = None) -> Iterator[None]:
        """Hold the lock; in the end, however it comes, what was written is put in order and synced."""
        with writing(self.path, wait=wait, waiting=waiting):
            try:
                yield
                if self._store.table is not None:
                    upkeep.tidy(self._store.table, store.EXACT_BELOW)
            except (RuntimeError, OSError) as error:
                raise upkeep.explained(error, self.path) from error
            finally:
                self._syncer.sync()

    def _needs_model(self, instead: str) -> None:
        if self._noted.model is None:
            raise BtoksError(str(self.path), "it has no model", f"use {instead}")

    def _model(self) -> Asker:
        with self._turn:
            if self._asker is None:
                from btoks.folder import load

                opened: SentenceTransformer = load(str(self._noted.model), device=self._device)
                settings.verify(self.path, self._noted, opened)
                self._asker = _asker(opened)
            return self._asker

    def _ask(self, query: Query | None, liked: list[str], without: Any) -> Asked:
        rows = self._store.by("id", liked, ["id", "kind", "vector"])
        missing = sorted(set(liked) - {row["id"] for row in rows})
        if missing:
            raise BtoksError(f"item {missing[0]!r}", "the library has none of this id", "take the id of a hit")
        vectors = [np.asarray(row["vector"], np.float32) for row in rows]
        return self._model().ask(query, vectors, rows[0]["kind"] if rows else None, without)

    def _levels(self, kind: str | None) -> dict[str, calibration.Level]:
        """What unrelated queries of this kind reach; measured anew when the library has changed."""
        version = self._store.version
        with self._turn:
            if self._measured.get(kind, (None, {}))[0] != version:
                sample, totals = self._store.sample(calibration.SAMPLE), self._store.kinds()
                levels = None if kind is None else calibration.of_items(kind, sample, totals)
                levels = levels or calibration.of_queries(settings.queries(self.path), sample, totals)
                self._measured[kind] = version, levels
            return self._measured[kind][1]


def _name(model: str | Path) -> str:
    """A model as a library notes it: a folder from the root, a hub id as it is."""
    return os.path.abspath(model) if Path(model).exists() else str(model)  # noqa: PTH100


def _asker(model: SentenceTransformer) -> Asker:
    from btoks.library.asking import Asker

    return Asker(model)


def _positive(k: int) -> None:
    if k < 1:
        raise BtoksError(f"k={k}", "it asks for nothing", "pass at least 1")


def _grouped(group: str | None) -> bool:
    if group not in (None, "file"):
        raise BtoksError(f"group={group!r}", "there is no such group", "pass 'file' or None")
    return group == "file"
