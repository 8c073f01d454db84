"""Indexing files: incremental equals from scratch, moved costs nothing, bad files are named."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btoks
from btoks.errors import BtoksError
from btoks.library import Library
from items import attached, picture, streamed
from library.stored import contents, same, vectors, write
from media import samples


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of every kind."""
    folder = tmp_path / "files"
    write(folder, "fox.txt", "a red fox in the snow")
    write(folder, "deep/er/long.md", " ".join(f"word{number}" for number in range(400)))
    write(folder, "deep/page.html", "<!doctype html><title>Foxes</title><script>hidden</script><p>run <b>fast</b>")
    write(folder, "deep/photo.png", samples.samples()["png"])
    write(folder, "clip.mp4", samples.video(frames=36))
    write(folder, "paper.pdf", samples.pdf())
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path) -> Library:
    return Library.create(tmp_path / "library", model=model)


def scratch(files: Path, model: Path, tmp_path: Path) -> Library:
    library = Library.create(tmp_path / "scratch", model=model)
    library.add(files)
    return library


def paths(library: Library) -> dict[str, list[str]]:
    return {row["id"]: row["paths"] for row in contents(library).values()}


def test_every_kind_is_cut_and_embedded_as_encode_stream_does(library: Library, files: Path) -> None:
    report = library.add(files)
    assert (report.files, report.errors) == (6, [])
    rows = sorted(contents(library).values(), key=lambda row: (row["path"], row["page"] or 0, row["start"] or 0))
    assert report.embedded == len(rows)
    assert {row["folder"] for row in rows} == {"", "deep", "deep/er"}
    assert {row["year"] for row in rows} == {time.localtime().tm_year}
    pages = [row for row in rows if row["kind"] == "pdf"]
    assert [(row["page"], row["text"].strip()) for row in pages] == [(n, f"Page {n} of the sample") for n in (1, 2, 3)]
    (clip,) = [row for row in rows if row["kind"] == "video"]
    assert (clip["start"], clip["end"]) == (0, 3)
    (photo,) = [row for row in rows if row["kind"] == "image"]
    assert all(row["thumbnail"][:2] == b"\xff\xd8" for row in (*pages, clip, photo))
    (html,) = [row for row in rows if row["path"].endswith("html")]
    assert html["text"] == "Foxes\nrun fast"
    long = [row for row in rows if row["path"].endswith("long.md")]
    assert len(long) == 4
    items = [
        btoks.Source(files / "paper.pdf", page=2),
        btoks.Source(files / "clip.mp4", start=0, end=3),
        btoks.Source(files / "deep" / "photo.png"),
        long[1]["text"],
    ]
    want = streamed(attached("qwen3_vl"), items, task="document")
    got = vectors(library)
    for row, vector in zip((pages[1], clip, photo, long[1]), want, strict=True):
        np.testing.assert_allclose(got[row["id"]], vector, rtol=0, atol=1e-5)


def test_incremental_equals_from_scratch(library: Library, files: Path, model: Path, tmp_path: Path) -> None:
    library.add(files)
    write(files, "new/owl.txt", "an owl at night")
    write(files, "fox.txt", "another fox altogether")
    write(files, "new/copy.txt", "another fox altogether")
    shutil.move(files / "deep", files / "deeper")
    (files / "clip.mp4").unlink()
    report = library.add(files, prune=True)
    assert (report.embedded, report.removed) == (2, 1)
    same(library, scratch(files, model, tmp_path))
    again = library.add(files, prune=True)
    assert (again.unchanged, again.total) == (again.files, 0)


def test_a_moved_folder_embeds_nothing_and_keeps_its_ids(
    library: Library, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(files)
    before = set(contents(library))
    opened = Library.open(library.path)
    monkeypatch.setattr("btoks.library.view.View.asker", lambda self: pytest.fail("the model was asked for"))
    elsewhere = tmp_path / "elsewhere"
    files.rename(elsewhere)
    report = opened.add(elsewhere)
    assert (report.embedded, report.reused) == (0, 6)
    assert set(contents(opened)) == before
    assert all(path.startswith(str(elsewhere)) for each in paths(opened).values() for path in each)
    (elsewhere / "fox.txt").rename(elsewhere / "vixen.txt")
    assert opened.add(elsewhere).embedded == 0
    assert set(contents(opened)) == before
    assert opened.stats()["files"] == 6


def test_duplicates_are_stored_once_with_all_their_paths(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    one, other = write(folder, "b.txt", "same words"), write(folder, "a.txt", "same words")
    assert library.add(folder).embedded == 1
    (row,) = contents(library).values()
    assert (row["path"], row["paths"]) == (str(other), [str(other), str(one)])
    hits = library.search("same words", min_score=0, where=f"array_has(paths, '{one}')")
    assert [hit.path for hit in hits] == [str(other)]
    other.unlink()
    assert library.add(folder, prune=True, force=True).removed == 1
    assert paths(library) == {row["id"]: [str(one)]}


def test_a_changed_file_leaves_nothing_of_the_old_one(library: Library, tmp_path: Path) -> None:
    path = write(tmp_path / "f", "a.txt", "the first words")
    library.add(path)
    write(tmp_path / "f", "a.txt", "quite other ones")
    library.add(path)
    assert [row["text"] for row in contents(library).values()] == ["quite other ones"]
    os.utime(path, (0, 10**9))
    report = library.add(path)
    assert (report.unchanged, report.embedded, report.reused) == (0, 0, 1)
    assert [row["year"] for row in contents(library).values()] == [2001]


def test_a_folder_stays_relative_to_where_its_file_was_found_first(library: Library, files: Path) -> None:
    library.add(files)
    write(files, "deep/er/long.md", "short now")
    library.add(files / "deep")
    assert {row["folder"] for row in contents(library).values()} == {"", "deep", "deep/er"}
    assert library.search("short", min_score=0, where="folder like 'deep/%' and text = 'short now'")


def test_prune_refuses_what_looks_like_a_missing_disk(library: Library, files: Path) -> None:
    library.add(files)
    before = paths(library)
    hidden = files.with_name("away")
    files.rename(hidden)
    with pytest.raises(BtoksError, match="missing"):
        library.add(files, prune=True)
    files.mkdir()
    with pytest.raises(BtoksError, match="6 of its 6 files are gone"):
        library.add(files, prune=True)
    assert paths(library) == before
    assert library.add(files, prune=True, force=True).removed == 6
    assert contents(library) == {}
    assert library.search("fox", min_score=0) == []


def test_without_prune_nothing_is_forgotten(library: Library, files: Path) -> None:
    library.add(files)
    before = paths(library)
    (files / "fox.txt").unlink()
    assert library.add(files).removed == 0
    assert paths(library) == before


def test_bad_files_are_named_and_do_not_stop_the_run(library: Library, files: Path) -> None:
    write(files, "noise.bin", b"\0\1\2\3")
    write(files, "empty.txt", b"")
    write(files, "broken.png", samples.samples()["png"][:60])
    write(files, "secret.pdf", samples.samples()["pdf_encrypted"])
    (files / "nowhere").symlink_to(files / "not there")
    bad = {"noise.bin", "empty.txt", "broken.png", "secret.pdf", "nowhere"}
    for _ in range(2):
        report = library.add(files)
        assert {Path(error.item).name for error in report.errors} == bad
    assert report.total == 0
    assert library.stats()["bad_files"] == 4
    write(files, "broken.png", samples.samples()["png"])
    assert {Path(error.item).name for error in library.add(files).errors} == bad - {"broken.png"}


def test_copies_of_a_bad_file_are_noted_as_bad_too(library: Library, files: Path) -> None:
    names = [f"empty{number}.txt" for number in range(4)]
    for name in names:
        write(files, name, b"")
    for _ in range(2):
        report = library.add(files)
        assert sorted(Path(error.item).name for error in report.errors) == names
        assert {error.reason for error in report.errors} == {report.errors[0].reason}
    assert (report.total, report.unchanged) == (0, 10)


def test_names_that_are_no_text(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"line\nbreak.txt", "emoji 🦊.txt".encode(), b"latin\xe9.txt", b"quote's\".txt", b"data:,x"]
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_text(f"text number {number}")
    report = library.add(folder)
    assert (report.embedded, report.errors) == (len(names), [])
    hits = library.search("text", k=20, min_score=0)
    assert {os.fsencode(hit.path) for hit in hits} == {bytes(folder) + b"/" + name for name in names}
    assert all(Path(hit.path).exists() for hit in hits)
    assert library.add(folder).unchanged == len(names)
    (folder / os.fsdecode(names[2])).rename(folder / os.fsdecode(b"\xff\xfe.txt"))
    assert library.add(folder).embedded == 0
    assert library.stats()["rows"] == len(names)


def test_links_that_lead_back_are_followed_once(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    write(folder, "a/b/note.txt", "round and round")
    (folder / "a" / "b" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")
    report = library.add(folder)
    assert (report.files, report.embedded) == (1, 1)
    assert [Path(error.item).name for error in report.errors] == ["self"]


def test_hidden_files_and_libraries_are_left_out(library: Library, files: Path, model: Path) -> None:
    write(files, ".hidden.txt", "unseen")
    write(files, ".git/config.txt", "unseen")
    inner = Library.create(files / "inner", model=model)
    inner.add(files / "fox.txt")
    assert library.add(files).files == 6


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btoks.library import reading

    path = write(tmp_path / "f", "a.txt", "steady words")
    opened = reading.entries

    def growing(name: str, content: str) -> Any:
        yield from opened(name, content)
        path.write_text("other words, and more of them")

    monkeypatch.setattr(reading, "entries", growing)
    report = library.add(path)
    assert "changed while it was read" in str(report.errors[0])
    assert contents(library) == {}
    monkeypatch.undo()
    assert library.add(path).embedded == 1


def test_an_interruption_keeps_what_is_finished(library: Library, files: Path, model: Path, tmp_path: Path) -> None:
    from btoks.library import ingest

    def stop(report: ingest.Report) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "_BATCH", 2)
        with pytest.raises(KeyboardInterrupt):
            library.add(files, progress=stop)
    done = library.stats()["rows"]
    assert 0 < done < 11
    report = library.add(files)
    assert done + report.embedded == library.stats()["rows"]
    same(library, scratch(files, model, tmp_path))


def test_another_model_under_the_same_name_is_refused(tmp_path: Path, files: Path) -> None:
    folder = tmp_path / "model"
    btoks.save(attached("qwen3_vl"), folder)
    Library.create(tmp_path / "library", model=folder).add(files / "fox.txt")
    shutil.rmtree(folder)
    btoks.save(attached("qwen2_vl"), folder)
    with pytest.raises(BtoksError, match="is not the one it was made with"):
        Library.open(tmp_path / "library").search("fox")


def test_thumbnails_keep_their_shape(library: Library, tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "p", f"{number}.png", samples.image_bytes(picture(number, 400, 600), "PNG"))
    library.add(tmp_path / "p")
    from io import BytesIO

    from PIL import Image

    for name in contents(library):
        with Image.open(BytesIO(library.thumbnail(name) or b"")) as small:
            assert small.size == (192, 128)
