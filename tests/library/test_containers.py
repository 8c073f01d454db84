"""Archives and tables: their members and rows are found as files are, and metadata can be filtered by."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from btoks.library import Library, containers
from library.stored import contents, write
from media import samples

MEMBERS = {"a/fox.txt": b"a red fox", "b/photo.png": samples.samples()["png"], "paper.pdf": samples.pdf(2)}


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in {**MEMBERS, ".hidden": b"x", "__MACOSX/junk": b"x"}.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(mode: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return data.getvalue()


@pytest.fixture
def library(tmp_path: Path, model: Path) -> Library:
    return Library.create(tmp_path / "library", model=model)


@pytest.mark.parametrize(
    "data", [zipped(), tarred("w"), tarred("w:gz"), tarred("w:xz")], ids=["zip", "tar", "gz", "xz"]
)
def test_members_are_found_as_files_are(library: Library, tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "f", "all of it", data)
    report = library.add(path)
    assert (report.embedded, report.errors) == (4, [])
    rows = contents(library)
    assert {row["path"] for row in rows.values()} == {f"{path}/{name}" for name in MEMBERS}
    for name, content in MEMBERS.items():
        write(tmp_path / "g", name, content)
    assert library.add(tmp_path / "g").embedded == 0
    assert set(contents(library)) == set(rows)
    path.rename(tmp_path / "f" / "renamed")
    assert library.add(tmp_path / "f").reused == 1
    assert {p for row in contents(library).values() for p in row["paths"] if "/f/" in p} == {
        f"{tmp_path}/f/renamed/{name}" for name in MEMBERS
    }


def test_a_member_and_a_file_with_one_content_are_taken_in_one_run(library: Library, tmp_path: Path) -> None:
    write(tmp_path / "f", "a.zip", zipped())
    write(tmp_path / "f", "fox.txt", MEMBERS["a/fox.txt"])
    report = library.add(tmp_path / "f")
    assert (report.embedded, report.errors) == (4, [])
    (row,) = [row for row in contents(library).values() if row["text"] == "a red fox"]
    assert row["paths"] == [f"{tmp_path}/f/a.zip/a/fox.txt", f"{tmp_path}/f/fox.txt"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (zipped()[:-40], "cannot be read"),
        (b"\x1f\x8b" + b"rubbish" * 20, "cannot be read"),
        (tarred("w:gz")[:200], "cannot be read"),
    ],
)
def test_damaged_archives_are_named(library: Library, tmp_path: Path, data: bytes, told: str) -> None:
    report = library.add(write(tmp_path, "archive", data))
    assert any(told in str(error) for error in report.errors)


def test_an_archive_is_read_no_further_than_its_limit(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_LARGEST", 1000)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", b"0" * 10_000_000)
        archive.writestr("fine.txt", b"small enough")
    report = library.add(write(tmp_path, "bomb.zip", data.getvalue()))
    assert (report.embedded, len(report.errors)) == (1, 1)
    assert "bomb.txt: it is larger than" in str(report.errors[0])


ROWS: list[dict[str, Any]] = [
    {"id": "fox", "text": "a red fox", "Taken by": "Ada", "stars": 3},
    {"id": "photo", "image": "pictures/photo.png", "text": "a gradient", "Taken by": "Bo", "stars": 5},
    {"id": "page", "image": "paper.pdf", "page": 2, "Taken by": "Ada", "stars": 4},
]


def lines() -> bytes:
    return "\n".join(map(json.dumps, ROWS)).encode()


def comma() -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "text", "image", "page", "Taken by", "stars"])
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def column() -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([{**dict.fromkeys(ROWS[1]), "page": None, **row} for row in ROWS]), out)
    return out.getvalue()


@pytest.mark.parametrize(("name", "data"), [("t.jsonl", lines()), ("t.csv", comma()), ("t.parquet", column())])
def test_rows_of_a_table_are_found_and_filtered(library: Library, tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path / "f", "pictures/photo.png", samples.samples()["png"])
    write(tmp_path / "f", "paper.pdf", samples.pdf())
    table = write(tmp_path / "f", name, data)
    report = library.add(table)
    assert (report.embedded, report.errors) == (3, [])
    hits = {str(hit.path).rpartition("#")[2]: hit for hit in library.search("fox", min_score=0)}
    assert {key: (hit.kind, hit.page) for key, hit in hits.items()} == {
        "fox": ("text", None),
        "photo": ("image", None),
        "page": ("pdf", 2),
    }
    assert hits["photo"].text == "a gradient"
    stars = "stars >= 4" if name != "t.csv" else "cast(stars as int) >= 4"
    found = library.search("fox", min_score=0, where=f"taken_by = 'Ada' and {stars}")
    assert [hit.path for hit in found] == [f"{table}#page"]


def test_several_texts_of_a_row_are_its_lines(library: Library, tmp_path: Path) -> None:
    library.add(write(tmp_path, "t.jsonl", json.dumps({"text": ["a red fox", "in the snow"]})))
    assert [row["text"] for row in contents(library).values()] == ["a red fox\nin the snow"]


def test_wrong_rows_are_named_and_the_others_found(library: Library, tmp_path: Path) -> None:
    rows = [
        {"text": "fine", "size": 1},
        {"note": "nothing to find"},
        {"image": "not there.png"},
        {"text": "x", "size": "y"},
    ]
    path = write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)) + "\n{broken")
    report = library.add(path)
    assert report.embedded == 1
    assert len(report.errors) == 4


def test_a_table_without_such_columns_is_a_text(library: Library, tmp_path: Path) -> None:
    assert library.add(write(tmp_path, "prices.csv", "name,price\napple,3\n")).errors == []
    assert [row["text"] for row in contents(library).values()] == ["name,price\napple,3\n"]
