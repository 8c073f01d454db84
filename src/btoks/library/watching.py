"""Following folders: what is made, changed, moved or deleted in them is in the library a moment later.

Every round is a run of `Library.add` over the roots in which something happened, which holds the lock for as long as it
writes. Nothing is forgotten by a notice alone: a run with `prune` looks at the disk, and refuses what looks like an
unmounted one.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.disk import BusyError
from btoks.library.hub import located
from btoks.library.names import shown
from btoks.library.walk import absolute, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from btoks.library.ingest import Report
    from btoks.library.library import Library

_PAUSE, _WAIT = 1.0, 1.0
"""Seconds between two looks at what is still to be done, and to wait for another writer before the next look."""
_STEP, _DEBOUNCE = 200, 2_000
"""Milliseconds of quiet that end a batch of changes, and after which it ends in any case."""


@dataclass
class Watch:
    """What is told of a watch: `done` of every run that changed something, `failed` of each error once."""

    done: Callable[[Report], Any]
    failed: Callable[[BtoksError], Any]
    stop: threading.Event = field(default_factory=threading.Event)
    known: set[str] = field(default_factory=set)
    """Errors that were told already."""

    def error(self, error: BtoksError) -> None:
        """Tell an error that was not told before."""
        if str(error) not in self.known:
            self.known.add(str(error))
            self.failed(error)

    def report(self, report: Report) -> None:
        """Tell what a run has done, if it has done something."""
        for error in report.errors:
            self.error(error)
        if report.total or report.removed:
            self.done(report)

    def forget(self, root: str) -> None:
        """A root is there: if it goes again, that is told again."""
        self.known.discard(str(_missing(root)))


def watch(library: Library, paths: Iterable[str | Path], told: Watch) -> None:
    """Keep a library up to date with files and folders until `told.stop` is set, or Ctrl-C."""
    roots = sorted({absolute(place) for path in paths for place in located(os.fspath(path))})
    due: dict[str, bool] = {}  # by root, whether something was deleted in it
    while not told.stop.is_set():
        there = _there(roots, told)
        if not there:
            told.stop.wait(_PAUSE)
            continue
        due.update(dict.fromkeys(there, False) | due)  # what happened while nobody watched
        with closing(_changes(library, list(there), told.stop)) as batches:
            for changes in batches:
                for path, deleted in changes:
                    for root in [each for each in there if inside(path, each)] or there:
                        due[root] = due.get(root, False) or deleted
                if _there(roots, told) != there:  # a root came, went, or is another folder of the same name
                    due.clear()  # the deletion of a root is none of its files
                    break
                due = {root: prune for root, prune in due.items() if not _settled(library, root, prune, told)}


def _settled(library: Library, root: str, prune: bool, told: Watch) -> bool:
    """Whether the library is up to date with a root now; it is to be tried again while another process writes."""
    try:
        told.report(library.add(root, prune=prune, wait=_WAIT))
    except BusyError:
        return False
    except BtoksError as error:
        told.error(error)
    return True


def _there(roots: list[str], told: Watch) -> dict[str, tuple[int, int]]:
    """The roots that are there, and which folder of this name each is."""
    found = {}
    for root in roots:
        try:
            status = os.stat(root)  # noqa: PTH116
        except OSError:
            told.error(_missing(root))
        else:
            told.forget(root)
            found[root] = status.st_dev, status.st_ino
    return found


def _missing(root: str) -> BtoksError:
    return BtoksError(shown(root), "it is missing", "what it held is kept; it is followed again when it is back")


def _changes(
    library: Library, roots: list[str], stop: threading.Event
) -> Generator[list[tuple[str, bool]], None, None]:
    """What happens in some roots, in batches, as (path, whether it was deleted); nothing now and then."""
    from watchfiles import Change
    from watchfiles import watch as events

    own = absolute(str(library.path))

    def wanted(_: Change, path: str) -> bool:
        root = max((each for each in roots if inside(path, each)), key=len, default="")
        return not inside(path, own) and not any(part.startswith(".") for part in path[len(root) :].split("/"))

    batches = events(
        *roots,
        watch_filter=wanted,
        debounce=_DEBOUNCE,
        step=_STEP,
        rust_timeout=int(_PAUSE * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        ignore_permission_denied=True,
    )
    try:
        for batch in batches:
            yield [(path, change is Change.deleted) for change, path in batch]
    except FileNotFoundError:  # a root went a moment ago
        return
    except OSError as error:
        reason = f"its folders cannot be followed ({error})"
        raise BtoksError(shown(roots[0]), reason, "raise the system's limit of watches, or watch less") from error
