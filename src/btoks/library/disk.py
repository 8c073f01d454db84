"""What keeps a library whole: one writer at a time, files replaced in one step, and new files synced to the disk.

The store never syncs, so what it has written is synced here, every few seconds and before a run reports success.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LOCK, _INDEXING = "lock", "indexing"
_SYNC_EVERY = 5.0
_ASK_EVERY = 0.1


class BusyError(BtoksError):
    """Another process holds the lock."""


def writing(folder: Path, *, wait: float, waiting: Callable[[str], Any] | None = None) -> AbstractContextManager[None]:
    """Hold the library's lock; the system lets go of it when its holder ends, however it ends.

    `waiting` is told once, in a line, if another writer has it.
    """
    return _holding(folder, _LOCK, "another process writes to it", wait, waiting)


def indexing(folder: Path, *, wait: float) -> AbstractContextManager[None]:
    """Hold the lock under which the index of the vectors is built, and files are merged."""
    return _holding(folder, _INDEXING, "its index is being built", wait, None)


@contextmanager
def _holding(folder: Path, name: str, reason: str, wait: float, waiting: Callable[[str], Any] | None) -> Iterator[None]:
    try:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        refused = f"it cannot be written ({error.strerror})"
        raise BtoksError(str(folder), refused, "open it to search only, or mend its permissions") from error
    try:
        _locked(descriptor, folder, reason, wait, waiting)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, folder: Path, reason: str, wait: float, waiting: Callable[[str], Any] | None) -> None:
    deadline, told = time.monotonic() + wait, False
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            raise BusyError(str(folder), reason, "try again when that one is done")
        if waiting is not None and not told:
            waiting(f"{folder}: {reason}; waiting up to {wait:.0f} s")
            told = True
        time.sleep(_ASK_EVERY)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power loss."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they are still there after a power loss."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync(each.parent)


def swap_file(part: Path, path: Path) -> None:
    """Put a file that is synced already in the place of another, in one step that a power loss does not undo."""
    part.replace(path)
    _sync(path.parent)


class Syncer:
    """Syncs the files of a folder that it has not yet synced; the store's files never change once they are there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: dict[str, tuple[int, int]] = {}
        self._folders: set[str] = set()
        self._last = time.monotonic()
        self._turn = threading.Lock()

    def now_and_then(self) -> None:
        """Sync, if the last time is some seconds ago."""
        if time.monotonic() - self._last >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Sync everything that is new: files first, then the folders that name them."""
        with self._turn:
            for folder, folders, names in os.walk(self._folder, topdown=False):
                fresh = [self._fresh(os.path.join(folder, name)) for name in names]  # noqa: PTH118
                below = {os.path.join(folder, name) for name in folders} - self._folders  # noqa: PTH118
                if any(fresh) or below or folder not in self._folders:
                    _sync(folder)
                self._folders |= below
            self._folders.add(str(self._folder))
            self._last = time.monotonic()

    def _fresh(self, path: str) -> bool:
        try:
            status = os.stat(path)  # noqa: PTH116 - a library may hold many thousand files
            stamp = status.st_size, status.st_mtime_ns
            if self._done.get(path) == stamp:
                return False
            _sync(path)
        except FileNotFoundError:  # a version that was cleaned up meanwhile
            return False
        self._done[path] = stamp
        return True


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
