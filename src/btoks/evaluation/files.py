"""Files that are there whole or not at all, under names that any file system takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def file_name(name: str) -> str:
    """A name without what a file name cannot hold.

    >>> file_name("a/b c")
    'a_b_c'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place when it is done.

    >>> with whole(Path("out.txt")) as rest:  # doctest: +SKIP
    ...     rest.write_text("all of it")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        yield rest
        rest.replace(path)
    finally:
        rest.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object."""
    with whole(path) as rest:
        rest.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
