"""Another model or other codes: the same as a library made anew, searched throughout, whole if killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btoks
from btoks.errors import BtoksError
from btoks.library import Library, embedding, quantized, reindex, store
from command import run
from items import attached, picture
from library.stored import contents, same, write
from media import samples


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny model, saved."""
    folder = tmp_path_factory.mktemp("other") / "tiny"
    btoks.save(attached("qwen2_vl"), folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of every kind, and members of an archive."""
    folder = tmp_path / "files"
    write(folder, "fox.txt", "a red fox in the snow")
    write(folder, "long.md", " ".join(f"word{number}" for number in range(400)))
    write(folder, "deep/photo.png", samples.samples()["png"])
    write(folder, "deep/clip.mp4", samples.video(frames=36))
    write(folder, "paper.pdf", samples.pdf())
    with zipfile.ZipFile(folder / "both.zip", "w") as archive:
        archive.writestr("note.txt", "a note in an archive")
        archive.writestr("picture.png", samples.image_bytes(picture(7), "PNG"))
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path, files: Path) -> Library:
    made = Library.create(tmp_path / "library", model=model)
    made.add(files)
    return made


def scratch(folder: Path, model: Path, files: Path, **options: Any) -> Library:
    made = Library.create(folder, model=model, **options)
    made.add(files)
    return made


def numbered(library: Library) -> dict[str, int]:
    """How many tables of rows, files of queries and files of codebooks there are."""
    return {name: len(list(library.path.glob(f"{name}*"))) for name in ("items", "queries", "codebooks", "next")}


def test_another_model_gives_the_library_it_would_have_made(
    library: Library,
    files: Path,
    other: Path,
    tmp_path: Path,
) -> None:
    before = contents(library)
    reader = Library.open(library.path)
    reader.search("fox", min_score=0)
    report = library.reindex(model=other)
    assert (report.rows, report.embedded, report.errors) == (len(before), len(before), [])
    assert contents(library) == before
    same(library, scratch(tmp_path / "scratch", other, files))
    assert library.made_with(other)
    assert numbered(library) == {"items": 1, "queries": 1, "codebooks": 0, "next": 0}
    fresh = Library.open(library.path)
    for text in ("fox", "page"):
        hits = fresh.search(text, min_score=0)
        assert library.search(text, min_score=0) == reader.search(text, min_score=0) == hits
    assert library.add(files).unchanged == 6


def test_texts_come_from_the_table_and_lost_files_from_their_thumbnails(
    library: Library,
    files: Path,
    other: Path,
) -> None:
    before = contents(library)
    for name in ("fox.txt", "deep/photo.png", "paper.pdf"):
        (files / name).unlink()
    report = library.reindex(model=other)
    assert contents(library) == before
    assert report.embedded == len(before)
    assert sorted(str(error).partition(":")[0].rpartition("/")[2] for error in report.errors) == ["paper.pdf"] * 3 + [
        "photo.png"
    ]
    assert {error.reason for error in report.errors} == {"its file is gone or has changed"}


def test_a_stopped_run_goes_on_and_takes_in_what_changed_meanwhile(
    library: Library,
    files: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "_FEWEST", 3)
    before = contents(library)

    def stop(report: reindex.Report) -> None:
        if report.embedded == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.reindex(model=other, progress=stop)
    assert contents(Library.open(library.path)) == before
    assert not Library.open(library.path).made_with(other)
    (files / "deep").rename(files / "deeper")
    (files / "fox.txt").unlink()
    write(files, "owl.txt", "an owl at night")
    library.add(files, prune=True)
    report = library.reindex(model=other)
    assert len(before) - 7 <= report.embedded < report.rows
    same(library, scratch(tmp_path / "scratch", other, files))


def test_codes_are_made_of_the_vectors_that_are_there(
    library: Library,
    files: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    before, found = contents(library), library.search("fox", min_score=0)
    monkeypatch.setattr("btoks.library.view.View.asker", lambda self: pytest.fail("the model was asked for"))
    monkeypatch.setattr("btoks.folder.load", lambda *_, **__: pytest.fail("a model was loaded"))
    report = Library.open(library.path).reindex(quantize="int8", rescore="float16")
    assert (report.embedded, report.errors) == (0, [])
    assert contents_without_codes(library) == before
    monkeypatch.undo()
    assert {hit.id for hit in library.search("fox", min_score=0)} == {hit.id for hit in found}
    assert library.search("red fox", min_score=0, hybrid=True)[0].text == "a red fox in the snow"
    assert library.search(like=found[0].id, min_score=0)
    assert library.check()["missing"] == 0
    picture = next(row for row in before.values() if row["kind"] == "image")
    assert library.thumbnail(picture["id"]) == picture["thumbnail"]
    write(files, "owl.txt", "an owl at night")
    assert library.add(files).embedded == 1
    assert [row["text"] for row in library._store.get("path like '%owl.txt'", ["text"])] == ["an owl at night"]
    again = library.reindex(quantize="float32")
    assert again.embedded == again.rows == len(before) + 1
    same(library, scratch(tmp_path / "scratch", model, files))


def contents_without_codes(library: Library) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in row.items() if key not in ("codes", "fine")}
        for name, row in contents(library).items()
    }


def test_a_model_and_codes_at_once(library: Library, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "FIT", 6)
    monkeypatch.setattr(embedding, "_FEWEST", 3)
    before = contents(library)
    library.reindex(model=other, quantize="int8")
    assert contents_without_codes(library) == before
    assert library._store.codec is not None
    assert numbered(library) == {"items": 1, "queries": 1, "codebooks": 1, "next": 0}


def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path, model: Path, library: Library) -> None:
    own = Library.create(tmp_path / "own", model=None, quantize="int8")
    own.add_vectors([f"{number}" for number in range(50)], np.random.default_rng(0).normal(size=(50, 4)))
    for given, options, told in (
        (own, {"model": model}, "came without a model"),
        (own, {"quantize": "float16"}, "came without a model"),
        (own, {}, "nothing is to be changed"),
        (library, {"quantize": "ternry"}, "did you mean"),
        (library, {"rescore": "float16"}, "nothing is to be changed"),
    ):
        state = sorted(given.path.iterdir())
        with pytest.raises(BtoksError, match=told):
            given.reindex(**options)
        assert sorted(given.path.iterdir()) == state


def test_an_index_of_the_stores_is_compressed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EXACT_BELOW", 1000)
    rng = np.random.default_rng(0)
    made = rng.normal(size=(2000, 32))
    library = Library.create(tmp_path / "library", model=None)
    library.add_vectors([f"{number}" for number in range(2000)], made)
    library.reindex(quantize="ivf_rq")
    assert str(library._store.table.index_stats("vector_idx").index_type).upper().replace("_", "") == "IVFRQ"
    assert [library.search_vector(vector, k=1)[0].id for vector in made[:20]] == [f"{number}" for number in range(20)]
    assert library.check()["recall"] >= 0.95


_READER = """
import sys
import numpy as np
from btoks.library import Library
library, query = Library.open(sys.argv[1]), np.load(sys.argv[2])
print("ready", flush=True)
while True:
    hits = library.search_vector(query, k=3)
    print(" ".join(hit.id for hit in hits) or "nothing", flush=True)
"""


def test_searches_of_another_process_succeed_throughout(tmp_path: Path) -> None:
    """And the disk never holds more than 2.1 times what it held."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(8000, 64)).astype(np.float32)
    np.save(tmp_path / "query.npy", made[7])
    library = Library.create(tmp_path / "library", model=None)
    library.add_vectors([f"i{number}" for number in range(8000)], made)
    library.compact()
    before = held(library.path)
    command = [sys.executable, "-c", _READER, str(library.path), str(tmp_path / "query.npy")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **options) as running:
        said: list[str] = []
        assert running.stdout is not None
        reading = threading.Thread(target=lambda: said.extend(running.stdout or ()))
        assert running.stdout.readline() == "ready\n"
        reading.start()
        most, done = [before], threading.Event()
        measuring = threading.Thread(target=watch, args=(library.path, most, done))
        measuring.start()
        wait_for(said, 3)
        library.reindex(quantize="float16")
        wait_for(said, len(said) + 5)
        done.set()
        measuring.join()
        running.kill()
        assert running.stderr is not None
        assert running.stderr.read() == ""
        reading.join()
    assert all(line.split()[0] == "i7" for line in said)
    assert max(most) <= 2.1 * before
    assert json.loads((library.path / "library.json").read_text())["quantize"] == "float16"


def held(folder: Path) -> int:
    """Bytes of a folder whose files may go while they are counted."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(where, name).stat().st_size
    return total


def watch(folder: Path, most: list[int], done: threading.Event) -> None:
    while not done.is_set():
        most.append(held(folder))
        time.sleep(0.005)


def wait_for(said: list[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(said) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_command(library: Library) -> None:
    (told,) = run("reindex", library.path, "--quantize", "int8", "--json").records
    assert (told["embedded"], told["errors"]) == (0, [])
    assert told["rows"] == library.stats()["rows"]
    assert library.stats()["quantize"] == "int8"
    assert "nothing is to be changed" in run("reindex", library.path).line
