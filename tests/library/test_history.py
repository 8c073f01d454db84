"""Versions of a library, made current again whole; and its items as files for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyarrow import parquet

from btoks.errors import BtoksError
from btoks.library import Library, history
from command import run
from library.stored import contents, same, vectors, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    write(folder, "fox.txt", "a red fox")
    write(folder, "deep/bus.txt", "the bus")
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path, files: Path) -> Library:
    """Three versions: two files; one changed and one added; one removed."""
    made = Library.create(tmp_path / "library", model=model, keep_memory=True)
    made.add(files)
    write(files, "fox.txt", "another fox altogether")
    write(files, "owl.txt", "an owl")
    made.add(files)
    (files / "owl.txt").unlink()
    made.add(files, prune=True)
    return made


def test_each_write_is_a_version(library: Library, files: Path) -> None:
    library.add(files)
    known = library.history()
    assert [(each.version, each.did, each.rows, each.files) for each in known] == [
        (1, "add", 2, 2),
        (2, "add", 3, 3),
        (3, "add", 2, 2),
    ]
    assert all(each.restorable for each in known)
    assert [each.time for each in known] == sorted(each.time for each in known)


def test_a_restored_version_is_what_it_was(library: Library, tmp_path: Path, model: Path, files: Path) -> None:
    library.restore(2)
    assert {row["text"] for row in contents(library).values()} == {"another fox altogether", "the bus", "an owl"}
    assert library.stats()["memories"] == 3
    facts = library.check()
    assert (facts["files"], facts["missing"], facts["orphans"]) == (3, 0, 0)
    assert library.search("an owl", min_score=0, k=1)[0].text == "an owl"
    assert library.search("owl", min_score=0, hybrid=True, k=1)[0].text == "an owl"
    library.restore(1)
    assert {row["text"] for row in contents(library).values()} == {"a red fox", "the bus"}
    assert [each.did for each in library.history()] == ["add", "add", "add", "restore 2", "restore 1"]
    report = library.add(files, prune=True)
    assert (report.embedded, report.unchanged) == (1, 1)
    fresh = Library.create(tmp_path / "fresh", model=model)
    fresh.add(files)
    same(library, fresh)


def test_a_restore_cut_off_in_its_middle_is_finished_by_the_next_writer(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(view: history.View) -> None:
        if (view.folder / "restore.json").exists():
            view.store.table.restore(known[0].tables["items"])
            raise KeyboardInterrupt

    known = library.history()
    monkeypatch.setattr(history, "finish", cut)
    with pytest.raises(KeyboardInterrupt):
        library.restore(1)
    monkeypatch.undo()
    assert library.check()["orphans"] + library.check()["missing"] > 0
    Library.open(library.path).remove([])
    assert not (library.path / "restore.json").exists()
    facts = library.check()
    assert (facts["rows"], facts["files"], facts["missing"], facts["orphans"]) == (2, 2, 0, 0)


def test_what_compaction_removed_is_said(library: Library) -> None:
    library.compact()
    known = library.history()
    assert [each.restorable for each in known] == [False, False, False, True]
    with pytest.raises(BtoksError, match=r"version 2: a compaction or a reindex has removed its data.*left: 4"):
        library.restore(2)
    with pytest.raises(BtoksError, match="version 9: there is none; choose one of: 4"):
        library.restore(9)
    assert not (library.path / "restore.json").exists()


def test_a_line_that_was_cut_off_spoils_no_other(library: Library, files: Path) -> None:
    with (library.path / "history.jsonl").open("a") as lines:
        lines.write('\n{"version": 4, "ti')
    write(files, "new.txt", "something new")
    library.add(files)
    assert [each.version for each in library.history()] == [1, 2, 3, 4]


def test_the_command_shows_and_restores(library: Library) -> None:
    place = ("--library", library.path)
    shown = run("library", "history", *place)
    assert "3 (+1)" in shown.out
    assert [each["version"] for each in run("library", "history", *place, "--json").records] == [1, 2, 3]
    assert run("library", "restore", 2, *place, "--json").records[0]["items"] == 3
    assert "choose one of" in run("library", "restore", 7, *place).line


def test_everything_is_exported(library: Library, tmp_path: Path, files: Path) -> None:
    (files / "fox.txt").rename(files / "caf\udce9.txt")
    write(files, "table.jsonl", '{"text": "a row", "stars": 3}\n')
    library.add(files, prune=True)
    table, lines = library.export(tmp_path / "out")
    assert (table, lines) == (tmp_path / "out" / "items.parquet", tmp_path / "out" / "items.jsonl")
    rows, kept = parquet.read_table(table).to_pylist(), vectors(library)
    spoken = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in spoken] == sorted(kept)
    for row, said in zip(rows, spoken, strict=True):
        for vector in (row["vector"], said["vector"]):
            np.testing.assert_array_equal(np.asarray(vector, np.float32), kept[row["id"]])
        assert {key: row[key] for key in ("text", "kind", "stars", "folder")} == {
            key: said[key] for key in ("text", "kind", "stars", "folder")
        }
    assert {said["path"] for said in spoken} == {
        str(files / "deep" / "bus.txt"),
        str(files / "caf\udce9.txt"),
        f"{files}/table.jsonl#1",
    }
    assert {row["stars"] for row in rows} == {None, 3}
    (one,) = run("library", "export", tmp_path / "only.parquet", "--library", library.path, "--json").records
    assert parquet.read_table(one["path"]).num_rows == 3
    assert not list(tmp_path.glob(".*.part"))


def test_an_export_that_cannot_be_written_is_one_line(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BtoksError, match=r"neither .parquet nor .jsonl"):
        library.export(tmp_path / "items.csv")
    write(tmp_path, "file", "x")
    with pytest.raises(BtoksError, match="it cannot be written"):
        library.export(tmp_path / "file" / "items.jsonl")


def test_an_empty_library_exports_nothing(tmp_path: Path, model: Path) -> None:
    library = Library.create(tmp_path / "library", model=model)
    table, lines = library.export(tmp_path / "out")
    assert (parquet.read_table(table).num_rows, lines.read_text()) == (0, "")
    assert library.history() == []
