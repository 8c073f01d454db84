"""A writer's turn: the lock held, a restore that was cut off finished, in the end all in order, noted and synced."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from btoks.library import history, upkeep
from btoks.library import reindex as reindexing
from btoks.library.disk import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.library.disk import Syncer
    from btoks.library.view import Views


@contextmanager
def turn(
    views: Views, syncer: Syncer, did: str, wait: float, waiting: Callable[[str], Any] | None = None
) -> Iterator[None]:
    """Write to a library; `did` is what its history says of it."""
    folder = views.now.folder
    with writing(folder, wait=wait, waiting=waiting):
        try:
            history.finish(views.now)
            yield
            reindexing.settle(views.now, syncer)
            views.now.store.tidy()
        except (RuntimeError, OSError) as error:
            raise upkeep.explained(error, folder) from error
        finally:
            with suppress(RuntimeError, OSError):  # the next turn notes what this one could not
                history.note(views.now, did)
            syncer.sync()
