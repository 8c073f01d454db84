"""A library: files of every kind, embedded once, found by anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from btoks.errors import BtoksError
from btoks.library import history, quantized, searching, settings, upkeep
from btoks.library import reindex as reindexing
from btoks.library.disk import Syncer, indexing
from btoks.library.interface import LANCE
from btoks.library.memories import require
from btoks.library.objects import Address, Home, home
from btoks.library.rows import types_of
from btoks.library.turn import turn
from btoks.library.vectors import rows_of
from btoks.library.view import View, Views, chosen
from btoks.similarity import states_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import ArrayLike
    from sentence_transformers import SentenceTransformer

    from btoks.library.answering import Answer
    from btoks.library.asking import Query
    from btoks.library.history import Version
    from btoks.library.ingest import Report
    from btoks.library.interface import Store
    from btoks.library.ranking import Hit

_WAIT = 60.0


class Library:
    """Opened with `Library.open`, made with `Library.create`; threads may share one.

    >>> library = Library.create("photos.library")  # doctest: +SKIP
    >>> library.add(["photos"])  # doctest: +SKIP
    >>> library.search("a dog on the beach", where="year >= 2020")  # doctest: +SKIP
    """

    def __init__(self, folder: Home, noted: settings.Settings, *, device: str | None = None) -> None:
        self.path, self._device = folder, device
        self._views = Views(folder, noted, device)
        self._syncer = Syncer(folder)

    @property
    def view(self) -> View:
        """What the library is now: settings, rows and model that belong together, for readers that hold on to them."""
        return self._views.now

    @property
    def _store(self) -> Store:
        return self.view.store

    @classmethod
    def create(
        cls,
        path: str | Home,
        *,
        model: str | Path | None = "btoks-mini",
        device: str | None = None,
        quantize: Any = None,
        rescore: Any = None,
        keep_memory: bool = False,
        store: str = LANCE,
    ) -> Library:
        """Make a library in a new or empty folder; `model=None` is for vectors that are brought along.

        With `quantize`, such as "pca:0.5+float8", codes take the place of the vectors: fitted on the first 20,000 of
        them when a run ends with at least four a dimension, or by `reindex`; "ivf_rq" and "ivf_sq" compress the index
        alone. `rescore` keeps a finer copy as well, by which the best are ranked.
        With `keep_memory` every item's bottleneck memory is kept, for `ask(..., from_memory=True)`. With
        `store="qdrant"` the rows are in Qdrant, on the server that QDRANT_URL names or in the folder.
        """
        folder = home(path)
        kept = chosen(store, quantize=quantize, keep_memory=keep_memory, object_storage=isinstance(folder, Address))
        opened = None
        if model is not None:
            from btoks.folder import load

            opened = load(model, device=device)
            model = settings.name_of(model)
            if keep_memory:
                require(opened)
        width = None if opened is None else opened.get_embedding_dimension()
        states = 1 if opened is None else states_of(opened)
        options = quantized.checked(quantize, rescore, width, states)
        chosen(store, late_interaction=states > 1)
        noted = settings.create(folder, model, opened, keep_memory=keep_memory, **options, **kept)
        library = cls(folder, noted, device=device)
        if opened is not None:
            library.view.take(opened)
        return library

    @classmethod
    def open(cls, path: str | Home, *, device: str | None = None, model: SentenceTransformer | None = None) -> Library:
        """Open a library; its model, unless given, is loaded when a query or a new file first needs it."""
        library = cls(home(path), settings.read(home(path)), device=device)
        if model is not None:
            settings.verify(library.path, library.view.noted, model)
            library.view.take(model)
        return library

    @property
    def model(self) -> SentenceTransformer:
        """The model that embeds queries and files, loaded if it is not yet."""
        self._needs_model("search_vector")
        return self.view.asker().model

    @property
    def keeps_memory(self) -> bool:
        """Whether every item's bottleneck memory is kept."""
        return self.view.noted.keep_memory

    def made_with(self, model: str | Path) -> bool:
        """Whether the library's model has this name or folder."""
        return self.view.noted.model == settings.name_of(model)

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        prune: bool = False,
        force: bool = False,
        progress: Callable[[Report], Any] | None = None,
        wait: float = _WAIT,
        waiting: Callable[[str], Any] | None = None,
        engine: Literal["local", "ray"] = "local",
    ) -> Report:
        """Bring the library up to date with files and folders: new and changed files are embedded, nothing else.

        With `prune`, files that are gone from the paths are forgotten; that is refused, without `force`, where a path
        is missing or more than half of its files are gone. Bad files are in the report's `errors`. A cluster
        embeds with `engine="ray"`.
        """
        from btoks.library import ingest

        self._needs_model("add_vectors")
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        run = ingest.Run([os.fspath(path) for path in given], prune=prune, force=force, engine=engine)
        with self._writing("add", wait, waiting):
            return ingest.update(self.view, self._syncer, run, progress)

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
        if self.view.noted.model is not None:
            raise BtoksError(str(self.path), f"its vectors are those of {self.view.noted.model}", "use add")
        with self._writing("add vectors", wait):
            types = types_of(self._store.types())
            rows = rows_of(ids, vectors_ND, metadata, self._store.dim, types)
            self._store.put(rows)
        return len(rows)

    def remove(self, ids: Iterable[str], *, wait: float = _WAIT) -> int:
        """Forget items by their ids, and tell how many there were; the files stay as they are."""
        with self._writing("remove", wait):
            names = list(dict.fromkeys(ids))
            removed = self._store.delete(names)
            if self.view.memories is not None:
                self.view.memories.delete(names)
            return removed

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
        options: dict[str, Any] = {"hybrid": hybrid, "group": group, "like": like, "without": without}
        return self._views.steady(
            lambda now: searching.search(now.store, now.asker, now.levels, query, k, where, min_score, **options)
        )

    def search_vector(self, vector_D: ArrayLike, k: int = 10, where: str | None = None) -> list[Hit]:
        """The k items nearest to a vector, whose score is (1 + cosine) / 2."""
        return self._views.steady(lambda now: searching.search_vector(now.store, vector_D, k, where))

    def ask(
        self,
        question: str,
        k: int = 3,
        from_memory: bool = False,
        *,
        where: str | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        model: SentenceTransformer | str | Path | None = None,
        max_new_tokens: int = 128,
    ) -> Answer:
        """Answer a question from the k best hits, and name them: from their originals, or from their memories alone.

        `model` is another generative one to answer with; memories are read by the library's own.
        """
        from btoks.library.answering import answer

        self._needs_model("search_vector")
        options: dict[str, Any] = {"where": where, "min_score": min_score, "hybrid": hybrid}
        options["max_new_tokens"] = max_new_tokens
        return self._views.steady(lambda now: answer(now, question, k, from_memory, model, **options))

    def reindex(
        self,
        *,
        model: str | Path | None = None,
        quantize: Any = None,
        rescore: Any = None,
        progress: Callable[[reindexing.Report], Any] | None = None,
        wait: float = _WAIT,
        waiting: Callable[[str], Any] | None = None,
    ) -> reindexing.Report:
        """Embed everything by another model, or keep other codes (none: `quantize="float32"`), while searches go on.

        Built beside what is there and put in its place in one step: a killed run leaves the library as it was, and
        the next one goes on. Without `model` nothing is embedded where there are float vectors.
        """
        with self._writing("reindex", wait, waiting):
            want, opened = reindexing.wanted(self.view, model, quantize, rescore)
            report = reindexing.run(self.view, want, opened, self._syncer, progress or (lambda _: None))
            if opened is not None:
                self.view.take(opened)
            return report

    def thumbnail(self, item: str) -> bytes | None:
        """A small JPEG of an item, by its id; None for a text, and for what is not there."""
        found = self._views.steady(lambda now: now.store.by("id", [item], ["thumbnail"]))
        return found[0]["thumbnail"] if found else None

    def stats(self) -> dict[str, Any]:
        """What the library holds, and what it takes."""
        from btoks.library.checking import stats

        return stats(self.view)

    def check(self) -> dict[str, Any]:
        """Whether rows and files agree, and how many of the exact 10 nearest a search finds (recall)."""
        from btoks.library.checking import check

        now = self.view
        return check(self.path, now.lance, None if now.noted.model is None else settings.queries(self.path, now.noted))

    def compact(self, *, wait: float = _WAIT) -> None:
        """Merge small files and remove from disk what is no longer needed: deleted items, old states, killed writes."""
        with self._writing("compact", wait), indexing(self.path, wait=wait):
            reindexing.abandon(self.view)
            upkeep.compact(self.view)

    def export(self, target: str | Path) -> list[Path]:
        """Write all items to a file ending in .parquet, with their vectors, or .jsonl, or both into a folder."""
        from btoks.library.exporting import export

        return self._views.steady(lambda now: export(now.lance, target))

    def history(self) -> list[Version]:
        """What the library was after each write, and which of these versions can be restored."""
        return history.versions(self.view)

    def restore(self, version: int, *, wait: float = _WAIT) -> None:
        """Make a version of the history current again, items and files alike; it is kept as a new version."""
        with self._writing(f"restore {version}", wait), indexing(self.path, wait=wait):
            history.restore(self.view, version)

    def _writing(
        self, did: str, wait: float, waiting: Callable[[str], Any] | None = None
    ) -> AbstractContextManager[None]:
        return turn(self._views, self._syncer, did, wait, waiting)

    def _needs_model(self, instead: str) -> None:
        if self.view.noted.model is None:
            raise BtoksError(str(self.path), "it has no model", f"use {instead}")
