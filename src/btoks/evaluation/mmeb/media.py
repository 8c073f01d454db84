"""Pictures and frame folders below the media roots: found whatever the case, in natural order, at the set indices."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from btoks.evaluation.task import DataError

_FRAMES = (".jpg", ".jpeg", ".png")


def indices(stored: int, frames: int) -> list[int]:
    """Which of the stored frames are shown: spread from the first to the last, all where there are no more.

    >>> indices(10, 8), indices(3, 8)
    ([0, 1, 2, 3, 5, 6, 7, 9], [0, 1, 2])
    """
    if stored <= frames:
        return list(range(stored))
    return [place * (stored - 1) // (frames - 1) for place in range(frames)] if frames > 1 else [0]


def frame_files(folder: Path, frames: int | None) -> list[Path]:
    """The frames of a folder in natural order, `frames` of them or all."""
    found = [each for each in _names(folder) if each.lower().endswith(_FRAMES)]
    files = [folder / each for each in sorted(found, key=natural)]
    return files if frames is None else [files[index] for index in indices(len(files), frames)]


def natural(name: str) -> list[str | int]:
    """A sort key: runs of digits count as numbers, letters whatever their case.

    >>> sorted(["frame_10.jpg", "Frame_1.JPG", "9.jpeg", "10.jpeg"], key=natural)
    ['9.jpeg', '10.jpeg', 'Frame_1.JPG', 'frame_10.jpg']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.casefold())]


def sub_folders(folder: Path) -> list[str]:
    """The names of a folder's folders, in natural order."""
    return sorted((each for each in _names(folder) if (folder / each).is_dir()), key=natural)


def within(root: Path, name: str) -> Path | None:
    """What a name from the data stands for below a root, whatever its case; None if it is not there or not below."""
    at = root
    for part in PurePosixPath(name).parts:
        found = _by_case(at).get(part) or _by_case(at).get(part.casefold())
        if found is None:
            return None
        at = at / found
    return at


def home(dataset: str, roots: Sequence[Path], folders: Sequence[str]) -> Path:
    """The folder that holds a data set's media; DataError naming every place that was tried."""
    for root in roots:
        for folder in folders:
            found = within(root, folder)
            if found is not None and found.is_dir():
                return found
    tried = ", ".join(str(root / folder) for root in roots for folder in folders)
    raise DataError(dataset, f"no media at {tried}", "unpack its archive there")


@functools.lru_cache(maxsize=256)
def _names(folder: Path) -> tuple[str, ...]:
    """The names in a folder; the same one is asked for row after row."""
    try:
        return tuple(sorted(each.name for each in folder.iterdir()))
    except OSError:
        return ()


@functools.lru_cache(maxsize=256)
def _by_case(folder: Path) -> dict[str, str]:
    """The names in a folder by themselves, and by what they are without case."""
    names = _names(folder)
    return {name.casefold(): name for name in reversed(names)} | {name: name for name in names}


def forget() -> None:
    """Look at folders anew: what was not there may have come."""
    _names.cache_clear()
    _by_case.cache_clear()
