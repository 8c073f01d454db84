"""Finding files: folders are walked in order, hidden names and libraries left out, no folder entered twice."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from btoks.errors import BtoksError
from btoks.library.columnar import SIDE
from btoks.library.names import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "library.json"
"""A folder with such a file, and a lock, is a library."""


@dataclass(frozen=True)
class Found:
    """A file, the folder it was found under, and what tells whether it has changed."""

    path: str
    root: str
    size: int
    mtime_ns: int


@dataclass
class Walk:
    """What was found under some paths, and what could not be looked into."""

    found: list[Found] = field(default_factory=list)
    unread: dict[str, BtoksError] = field(default_factory=dict)


def absolute(path: str | Path) -> str:
    """The path from the root of the file system, its links as they are."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - Path would follow or refuse odd names


def inside(path: str, root: str) -> bool:
    """Whether a path is the root or under it.

    >>> inside("/a/b", "/a"), inside("/ab", "/a")
    (True, False)
    """
    return path == root or path.startswith(root if root.endswith("/") else root + "/")


def walk(roots: Sequence[str]) -> Walk:
    """The files under absolute paths, each once; a missing path is an error."""
    out, seen, names = Walk(), set[tuple[int, int]](), set[str]()
    for root in roots:
        try:
            status = os.stat(root)  # noqa: PTH116
        except OSError as error:
            raise unreadable(root, error) from error
        if stat.S_ISDIR(status.st_mode):
            _folder(root, root, status, out, seen, names)
        elif root not in names:
            names.add(root)
            out.found.append(Found(root, str(Path(root).parent), status.st_size, status.st_mtime_ns))
    return out


def _folder(
    folder: str, root: str, status: os.stat_result, out: Walk, seen: set[tuple[int, int]], names: set[str]
) -> None:
    waiting = [(folder, (status.st_dev, status.st_ino))]
    while waiting:
        here, key = waiting.pop()
        # Links may lead back to where they came from.
        if key in seen:
            continue
        seen.add(key)
        entries = _listed(here, out)
        there = {entry.name for entry in entries}
        if {MARK, "lock"} <= there:
            continue
        below, aside = [], set[str]().union(*(names for names in SIDE if names <= there))
        for entry in entries:
            if entry.name.startswith(".") or entry.name in aside:
                continue
            try:
                status = entry.stat()
            except OSError as error:
                out.unread[entry.path] = unreadable(entry.path, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                below.append((entry.path, (status.st_dev, status.st_ino)))
            elif stat.S_ISREG(status.st_mode) and entry.path not in names:
                names.add(entry.path)
                out.found.append(Found(entry.path, root, status.st_size, status.st_mtime_ns))
        waiting += reversed(below)


def _listed(folder: str, out: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        out.unread[folder] = unreadable(folder, error)
        return []


def unreadable(path: str, error: OSError) -> BtoksError:
    """What the system says of a path that cannot be read."""
    return BtoksError(shown(path), f"it cannot be read ({error.strerror})", "see whether it is there and permitted")


def year_of(path: str, mtime_ns: int) -> int:
    """The year a picture was taken in, by its EXIF; for everything else, the year of its last change."""
    return _taken(path) or time.localtime(mtime_ns // 1_000_000_000).tm_year


def _taken(path: str) -> int | None:
    from PIL import Image

    original, details = 0x9003, 0x8769
    try:
        # Only formats whose header Python reads itself: nothing is decoded outside the worker.
        with Image.open(path, formats=("JPEG", "TIFF", "PNG")) as image:
            exif = image.getexif()
            year = int(str(exif.get_ifd(details).get(original) or exif.get(0x0132))[:4])
    except Exception:
        return None
    return year if 1800 < year < 3000 else None
