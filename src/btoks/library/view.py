"""A library as one `library.json` describes it: settings, rows, model. A reindex puts another one in its place.

A question is answered by one view from beginning to end; if that one was replaced meanwhile, it is asked once more.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from btoks.errors import BtoksError
from btoks.library import settings
from btoks.library.memories import Memories
from btoks.library.searching import Levels
from btoks.library.store import LanceStore
from btoks.library.tables import connected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from btoks.library.asking import Asker

_T = TypeVar("_T")


class View:
    """Settings, rows and model that belong together."""

    def __init__(self, folder: Path, noted: settings.Settings, device: str | None = None) -> None:
        self.folder, self.noted, self.device = folder, noted, device
        self.store = LanceStore(folder, noted)
        self.memories = Memories(connected(folder), noted.memories) if noted.keep_memory else None
        self.levels = Levels(folder, noted)
        self._asker: Asker | None = None
        self._turn = threading.Lock()

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

    def __init__(self, folder: Path, noted: settings.Settings, device: str | None = None) -> None:
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


def _asker(model: SentenceTransformer) -> Asker:
    from btoks.library.asking import Asker

    return Asker(model)
