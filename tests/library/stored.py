"""Files written for a library to index, and what two libraries must have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from btoks.library import Library


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def contents(library: Library) -> dict[str, dict[str, Any]]:
    """Every row by id, without its vector, which may differ in the last bit with the batch it was made in."""
    rows = library._store.get("id IS NOT NULL")
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: {key: value for key, value in row.items() if key != "vector"} for row in rows}


def vectors(library: Library) -> dict[str, Any]:
    return library._store.vectors(sorted(contents(library)))


def same(one: Library, other: Library) -> None:
    """The same rows and vectors, and whole."""
    assert contents(one) == contents(other)
    mine, theirs = vectors(one), vectors(other)
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=1e-5)
    for library in (one, other):
        facts = library.check()
        assert (facts["missing"], facts["orphans"]) == (0, 0)
