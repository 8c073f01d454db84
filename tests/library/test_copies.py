"""Very many files with one content."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from btoks.library import Library, commit, ingest
from library.stored import contents, write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_very_many_copies_cost_no_more_each_than_a_few(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All places of a content are one row: what is looked up and written grows as the files do."""
    library = Library.create(tmp_path / "library", model=model)
    looked, written = [], []
    exists, placed = ingest.exists, commit.placed
    monkeypatch.setattr(ingest, "exists", lambda path: looked.append(path) or exists(path))
    monkeypatch.setattr(commit, "placed", lambda row, places: written.append(len(places)) or placed(row, places))
    few, many, folder = 200, 3_000, tmp_path / "copies"
    for number in range(few):
        write(folder, f"distinct/{number}.txt", f"text number {number}")
    for number in range(many):
        write(folder, f"same/{number}.txt", "the same words")
    started = time.perf_counter()
    library.add(folder / "distinct")
    each = (time.perf_counter() - started) / few
    started = time.perf_counter()
    assert library.add(folder / "same").embedded == 1
    assert (time.perf_counter() - started) / many <= each
    (row,) = [row for row in contents(library).values() if row["text"] == "the same words"]
    assert len(row["paths"]) == many
    (folder / "same").rename(folder / "moved")
    assert library.add(folder / "moved").reused == many
    assert library.stats()["files"] == few + many
    shutil.rmtree(folder / "moved")
    (folder / "moved").mkdir()
    assert library.add(folder / "moved", prune=True, force=True).removed == many
    assert library.stats()["rows"] == few
    assert len(looked) <= 4 * many
    assert sum(written) <= few + 8 * many
