"""What keeps a library whole: one writer at a time, files replaced in one step, and new files synced to the disk.

The store never syncs, so what it has written is synced here, every few seconds and before a run reports success.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.lease import leased, still
from btoks.library.objects import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.library.objects import Home

_LOCK, _INDEXING = "lock", "indexing"
_SYNC_EVERY = 5.0
_ASK_EVERY = 0.1


class BusyError(BtoksError):
    """Another process holds the lock."""


def writing(folder: Home, *, wait: float, waiting: Callable[[str], Any] | None = None) -> AbstractContextManager[None]:
    """Hold the library's lock; the system lets go of it when its holder ends, however it ends.

    `waiting` is told once, in a line, if another writer has it.
    """
    return _holding(folder, _LOCK, "another process writes to it", wait, waiting)


def indexing(folder: Home, *, wait: float) -> AbstractContextManager[None]:
    """Hold the lock under which the index of the vectors is built, and files are merged."""
    return _holding(folder, _INDEXING, "its index is being built", wait, None)


@contextmanager
def _holding(folder: Home, name: str, reason: str, wait: float, waiting: Callable[[str], Any] | None) -> Iterator[None]:
    if isinstance(folder, Address):
        with leased(folder / name, lambda: _busy(folder, reason), wait, waiting):
            yield
        return
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
            raise _busy(folder, reason)
        if waiting is not None and not told:
            waiting(f"{folder}: {reason}; waiting up to {wait:.0f} s")
            told = True
        time.sleep(_ASK_EVERY)


def _busy(folder: Home, reason: str) -> BusyError:
    return BusyError(str(folder), reason, "try again when that one is done")


def replace_file(path: Home, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power loss."""
    if isinstance(path, Address):
        path.write(data)
        return
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def append_line(path: Home, line: str) -> None:
    """Add a line, in front of which a new one begins: what a killed writer has left of a line spoils no other."""
    if isinstance(path, Address):
        path.write((path.read_bytes() if path.is_file() else b"") + f"\n{line}".encode())
        return
    with path.open("a", encoding="utf-8") as lines:
        lines.write(f"\n{line}")


def remove(path: Home) -> None:
    """Remove a file, or a folder with all that it holds, if it is there."""
    if isinstance(path, Address):
        path.remove()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def local(path: Home, *, written: bool = False) -> Iterator[Path]:
    """A file of this machine in the place of an object: with its bytes, or to be put there once it is written."""
    if not isinstance(path, Address):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="btoks-") as folder:
        file = Path(folder) / path.name
        if not written:
            file.write_bytes(path.read_bytes())
        yield file
        if written:
            path.write(file.read_bytes())


def make_folder(folder: Home) -> None:
    """Make a folder, and those above it, so that they are still there after a power loss."""
    if isinstance(folder, Address):
        return
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync(each.parent)


def swap_file(folder: Home, part: str, name: str) -> None:
    """Put a file that is synced already in the place of another, in one step that a power loss does not undo."""
    if isinstance(folder, Address):
        still(folder / _LOCK)
        (folder / name).write((folder / part).read_bytes())
        (folder / part).remove()
        return
    path = folder / name
    (folder / part).replace(path)
    _sync(path.parent)


class Syncer:
    """Syncs the files of a folder that it has not yet synced; the store's files never change once they are there.

    On object storage, which is durable by itself, it looks whether the lock is still held.
    """

    def __init__(self, folder: Home) -> None:
        self._folder = folder
        self._done: dict[str, tuple[int, int]] = {}
        self._folders: set[str] = set()
        self._last = time.monotonic()
        self._turn = threading.Lock()

    def now_and_then(self) -> None:
        """Sync, if the last time is some seconds ago."""
        if isinstance(self._folder, Address) or time.monotonic() - self._last >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Sync everything that is new: files first, then the folders that name them."""
        if isinstance(self._folder, Address):
            still(self._folder / _LOCK)
            return
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
