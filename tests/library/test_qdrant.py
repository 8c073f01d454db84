"""A library whose items are in Qdrant: the same files give the same ids, hits and counts as in LanceDB."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.library import Library
from btoks.library.conditions import filter_of
from command import run
from items import python
from library.stored import contents, vectors, write
from media import samples

if not importlib.util.find_spec("qdrant_client"):
    pytest.skip("qdrant-client is not installed", allow_module_level=True)

WORDS = ("fox", "river", "bread", "bicycle", "mountain", "letter")
CONDITIONS = (
    "kind = 'image'",
    "kind IN ('text', 'image') AND stars > 2",
    "NOT (kind = 'text' AND stars >= 3)",
    "stars != 3",
    "stars NOT IN (1, 2)",
    "stars BETWEEN 2 AND 4 OR stars IS NULL",
    "stars IS NOT NULL AND NOT good = true",
    "folder like 'trips/%'",
    "folder not like 'trips/2020/%' and year >= 2000",
    "page = 1 or (text = 'note 1' and (stars <= 2 or good = false))",
    "text = 'it''s'",
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for place, word in enumerate(WORDS):
        write(folder, f"trips/{2018 + place}/{word}.txt", f"a {word} in the snow")
    write(folder, "photo.png", samples.samples()["png"])
    write(folder, "paper.pdf", samples.pdf())
    rows = [{"text": f"note {place}", "stars": place, "good": place % 2 == 0} for place in range(6)]
    write(folder, "notes.jsonl", "\n".join(map(json.dumps, [*rows, {"text": "it's"}])))
    return folder


@pytest.fixture(params=["folder", "server"])
def both(
    request: pytest.FixtureRequest, tmp_path: Path, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Library, Library]:
    """The same files in Qdrant and in LanceDB."""
    if request.param == "server" and not os.environ.get("QDRANT_URL"):
        pytest.skip("QDRANT_URL names no server")
    if request.param == "folder":
        monkeypatch.delenv("QDRANT_URL", raising=False)
    made = [Library.create(tmp_path / store, model=model, store=store) for store in ("qdrant", "lance")]
    for library in made:
        assert library.add(files).errors == []
    return made[0], made[1]


def found(library: Library, **options: Any) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 4)) for hit in library.search("a fox", k=8, min_score=0, **options)]


def test_it_holds_and_finds_what_a_library_in_lancedb_does(both: tuple[Library, Library]) -> None:
    qdrant, lance = both
    assert contents(qdrant) == contents(lance)
    theirs = vectors(lance)
    for name, vector_D in vectors(qdrant).items():
        np.testing.assert_allclose(vector_D, theirs[name], rtol=0, atol=1e-5)
    assert found(qdrant) == found(lance)
    assert found(qdrant, group="file") == found(lance, group="file")
    first = found(lance)[0][0]
    assert found(qdrant, like=first) == found(lance, like=first)
    mine, other = qdrant.stats(), lance.stats()
    assert {key: mine[key] for key in mine if key not in ("path", "bytes")} == {
        key: other[key] for key in other if key not in ("path", "bytes")
    }
    assert qdrant.thumbnail(first) == lance.thumbnail(first)


def test_conditions_mean_what_they_mean_in_lancedb(both: tuple[Library, Library]) -> None:
    qdrant, lance = both
    for where in CONDITIONS:
        expected = {hit.id for hit in lance.search("x", k=50, where=where, min_score=0)}
        assert {hit.id for hit in qdrant.search("x", k=50, where=where, min_score=0)} == expected, where
        assert 0 < len(expected) < lance.stats()["rows"], where


def test_files_that_move_and_go_are_followed(both: tuple[Library, Library], files: Path) -> None:
    (files / "trips/2018/fox.txt").rename(files / "moved.txt")
    (files / "photo.png").unlink()
    write(files, "twice.txt", "a river in the snow")
    for library in both:
        report = library.add(files, prune=True)
        assert (report.embedded, report.removed) == (0, 1)
        assert library.add(files).unchanged == report.files
    assert contents(both[0]) == contents(both[1])
    gone = min(contents(both[1]))
    assert [library.remove([gone, "never there"]) for library in both] == [1, 1]
    assert contents(both[0]) == contents(both[1])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("text like '%fox%'", "LIKE for a folder and all below it"),
        ("text < 'b'", "an order for numbers alone"),
        ("knd = 'image'", "did you mean 'kind'?"),
        ("kind = ", "no such condition"),
        ("kind = 'image' or", "no such condition"),
        ("length(text) = 3", "no column 'length'"),
        ("kind ~ 'a'", "no such condition"),
        ("(kind = 'a'", "no such condition"),
    ],
)
def test_what_it_cannot_answer_is_refused_in_a_line(where: str, says: str) -> None:
    with pytest.raises(BtoksError, match=says):
        filter_of(where, ["kind", "text", "folder"])


def test_what_lancedb_alone_has_is_refused_in_a_line(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QDRANT_URL", raising=False)
    note, place = write(tmp_path, "note.txt", "a red fox"), tmp_path / "library"
    indexed = run("index", note, "--library", place, "--model", model, "--store", "qdrant", "--json")
    assert (indexed.status, indexed.records[0]["embedded"]) == (0, 1)
    asked = run("search", "a fox", "--library", place, "--store", "qdrant", "--min-score", "0", "--json")
    assert [hit["path"] for hit in asked.records] == [str(note)]
    assert run("library", "stats", "--library", place, "--json").records[0]["rows"] == 1
    for words in ("check", "compact", "history", "restore 1", f"export {tmp_path}/out.jsonl"):
        refused = run("library", *words.split(), "--library", place)
        assert (refused.status, "its items are in qdrant" in refused.line) == (1, True), words
    assert "its items are in qdrant" in run("reindex", place, "--quantize", "int8").line
    assert "no full text" in run("search", "a fox", "--library", place, "--hybrid").line
    assert "its items are in qdrant" in run("index", note, "--library", place, "--store", "lance").line
    for option in (["--quantize", "int8"], ["--keep-memory"]):
        new = run("index", note, "--library", tmp_path / "new", "--model", model, "--store", "qdrant", *option)
        assert (new.status, "a library in qdrant has none" in new.line) == (1, True), option


def test_a_folder_is_open_in_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_URL", raising=False)
    library = Library.create(tmp_path / "own", model=None, store="qdrant")
    assert library.add_vectors(["a", "b"], np.eye(2, 3)) == 2
    assert [hit.id for hit in Library.open(library.path).search_vector([0, 1, 0], k=1)] == ["b"]
    code = "import sys, btoks\nprint(btoks.Library.open(sys.argv[1]).search_vector([0, 1, 0])[0].id)"
    refused = python(code, library.path)
    assert "another process has it open" in refused.stderr.splitlines()[-1]
    del library
    assert python(code, tmp_path / "own").stdout == "b\n"


def test_a_server_that_is_not_there_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_URL", "http://127.0.0.1:9")
    library = Library.create(tmp_path / "far", model=None, store="qdrant")
    with pytest.raises(BtoksError, match="Qdrant did not answer"):
        library.add_vectors(["a"], np.eye(1, 3))
