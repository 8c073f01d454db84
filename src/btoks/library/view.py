"""A library as one `library.json` describes it: settings, rows, model. A reindex puts another one in its place.

A question is answered by one view from beginning to end; if that one was replaced meanwhile, it is asked once more.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from btoks.errors import BtoksError, did_you_mean
from btoks.library import settings
from btoks.library.interface import LANCE, STORES
from btoks.library.memories import Memories
from btoks.library.searching import Levels
from btoks.library.store import LanceStore
from btoks.library.tables import connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentence_transformers import SentenceTransformer

    from btoks.library.asking import Asker
    from btoks.library.interface import Store
    from btoks.library.objects import Home

_T = TypeVar("_T")


class View:
    """Settings, rows and model that belong together."""

    def __init__(self, folder: Home, noted: settings.Settings, device: str | None = None) -> None:
        self.folder, self.noted, self.device = folder, noted, device
        self.store = opened(folder, noted)
        self.memories = Memories(connected(folder), noted.memories) if noted.keep_memory else None
        self.levels = Levels(folder, noted)
        self._asker: Asker | None = None
        self._turn = threading.Lock()

    @property
    def lance(self) -> LanceStore:
        """The rows in LanceDB's hands, for what it alone can do with them."""
        if isinstance(self.store, LanceStore):
            return self.store
        reason = f"its items are in {self.noted.store}, which has no checks, codes, history or exports of ours"
        raise BtoksError(str(self.folder), reason, "index into a library in LanceDB for these")

    def asker(self) -> Asker:
        """What embeds queries, loaded if it is not yet."""
        with self._turn:
            if self._asker is None:
                from btoks.folder import load

                opened = load(str(self.noted.model), device=self.device)
                settings.verify(self.folder, self.noted, opened)
                self._asker = _asker(opened)
            return self._asker

    def take(self, model: SentenceTransformer) -> None:
        """Use a model that is open already."""
        self._asker = _asker(model)

    def after(self, noted: settings.Settings) -> View:
        """The view of other settings; the same model is not loaded again."""
        view = View(self.folder, noted, self.device)
        same = (noted.model, noted.queries) == (self.noted.model, self.noted.queries)
        view._asker = self._asker if same else None
        return view


class Views:
    """The view that holds now."""

    def __init__(self, folder: Home, noted: settings.Settings, device: str | None = None) -> None:
        self._folder = folder
        self._stamp, self._view = settings.stamp(folder), View(folder, noted, device)
        self._turn = threading.Lock()

    @property
    def now(self) -> View:
        """The view of the settings as they are on disk."""
        stamp = settings.stamp(self._folder)
        with self._turn:
            # Settings that are gone for a moment, or for good, are no new ones: whoever reads the rows will say so.
            if stamp not in (self._stamp, settings.GONE):
                self._view, self._stamp = self._view.after(settings.read(self._folder)), stamp
            return self._view

    def steady(self, ask: Callable[[View], _T]) -> _T:
        """Ask the view that holds now, and the next one if that was replaced under the question.

        A view that is gone may also have answered as if nothing had ever been there.
        """
        while True:
            view = self.now
            try:
                found = ask(view)
            except (BtoksError, OSError):
                if self.now is view:
                    raise
            else:
                if self.now is view:
                    return found


def chosen(store: str, **asked: Any) -> dict[str, Any]:
    """What is noted of the store of a new library; refused is what is asked of it that it does not have."""
    if store not in STORES:
        raise BtoksError(f"store {store!r}", "there is none of this name", did_you_mean(store, STORES))
    if store == LANCE:
        return {}
    from btoks.library import qdrant

    for name in (name for name, wanted in asked.items() if wanted):
        raise BtoksError(name.replace("_", " "), f"a library in {store} has none", "leave it out, or the store")
    return {"store": store, **qdrant.address()}


def opened(folder: Home, noted: settings.Settings) -> Store:
    """The rows of a library, wherever its settings say that they are."""
    if noted.store == LANCE:
        return LanceStore(folder, noted)
    from btoks.library.qdrant import QdrantStore

    return QdrantStore(Path(str(folder)), noted)


def _asker(model: SentenceTransformer) -> Asker:
    from btoks.library.asking import Asker

    return Asker(model)
