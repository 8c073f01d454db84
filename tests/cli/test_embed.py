"""`btoks embed`: every way in and every way out gives the vectors of `encode_stream`; bad items are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

import btoks
from btoks.cli import writers
from btoks.cli.rows import Row, embedded
from btoks.media import page_count
from command import run
from items import attached, streamed

TEXTS = ["a red fox", "ein roter Fuchs", "🦊"]
LINES = "".join(json.dumps({"id": f"t{place}", "text": text}) + "\n" for place, text in enumerate(TEXTS)).encode()


def vectors(records: list[dict[str, Any]]) -> np.ndarray:
    return np.array([each["embedding"] for each in records], np.float32)


def test_lines_from_stdin_equal_encode_stream():
    ran = run("embed", stdin=LINES)
    assert ran.status == 0
    assert [set(each) for each in ran.records] == [{"id", "path", "embedding"}] * 3
    assert [(each["id"], each["path"]) for each in ran.records] == [("t0", None), ("t1", None), ("t2", None)]
    assert np.array_equal(vectors(ran.records), streamed(attached("qwen3_vl"), TEXTS))
    assert ran.line.startswith("3 embedded (64 dimensions), 0 skipped")


def test_files_of_every_kind_equal_encode_stream(media: Path):
    ran = run("embed", media)
    files = [media / name for name in ("deep/clip.txt", "deep/er/note.md", "picture.dat", "recipe")]
    pages = range(1, page_count(btoks.Source(files[3])) + 1)
    want = [(str(file), str(file)) for file in files[:3]] + [
        (f"{files[3]}#page={page}", str(files[3])) for page in pages
    ]
    assert [(each["id"], each["path"]) for each in ran.records] == want
    sources = [*map(btoks.Source, files[:3]), *(btoks.Source(files[3], page=page) for page in pages)]
    assert np.array_equal(vectors(ran.records), streamed(attached("qwen3_vl"), sources))


def test_lines_with_media_equal_encode_stream(media: Path):
    picture, clip, recipe = (str(media / each) for each in ("picture.dat", "deep/clip.txt", "recipe"))
    given = [
        {"image": picture, "text": "a flag"},
        {"id": 7, "video": clip, "start": 0, "end": 1.5},
        {"id": "page", "image": recipe, "page": 1},
        {"id": "pair", "image": [picture, picture], "text": None},
    ]
    ran = run("embed", stdin="\n\n".join(map(json.dumps, given)).encode())
    assert [(each["id"], each["path"]) for each in ran.records] == [
        ("1", picture),
        ("7", clip),
        ("page", recipe),
        ("pair", None),
    ]
    items = [
        given[0],
        {"video": btoks.Source(clip, start=0, end=1.5)},
        btoks.Source(recipe, page=1),
        {"image": [picture, picture]},
    ]
    assert np.array_equal(vectors(ran.records), streamed(attached("qwen3_vl"), items))


def test_formats_hold_the_same(tmp_path: Path):
    want = run("embed", stdin=LINES).records
    names = [{"id": each["id"], "path": each["path"]} for each in want]
    for suffix in ("jsonl", "npy", "parquet"):
        ran = run("embed", "--out", tmp_path / f"x.{suffix}", "--json", stdin=LINES)
        assert ran.records == [{"out": str(tmp_path / f"x.{suffix}"), "embedded": 3, "skipped": 0, "dim": 64}]
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == want
    assert np.array_equal(np.load(tmp_path / "x.npy"), vectors(want))
    assert [json.loads(line) for line in (tmp_path / "x.ids.jsonl").read_text().splitlines()] == names
    stored = parquet.read_table(tmp_path / "x.parquet")
    assert str(stored.schema.field("embedding").type) == "fixed_size_list<element: float>[64]"
    assert stored.select(["id", "path"]).to_pylist() == names
    assert np.array_equal(vectors(stored.to_pylist()), vectors(want))
    assert {each.name for each in tmp_path.iterdir()} == {"x.jsonl", "x.npy", "x.ids.jsonl", "x.parquet"}


def test_writers_stream(tmp_path: Path):
    """Numbers of many digits and more rows than a Parquet group holds come back exactly."""
    given_ND = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    for suffix in ("jsonl", "npy", "parquet"):
        with writers.writing(tmp_path / f"x.{suffix}") as writer:
            for place, vector_D in enumerate(given_ND):
                writer.add(Row(str(place)), vector_D)
    assert np.array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), given_ND)
    assert np.array_equal(vectors(list(map(json.loads, (tmp_path / "x.jsonl").open()))), given_ND)
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [1024, 1024, 452]
    assert np.array_equal(vectors(file.read().to_pylist()), given_ND)


def test_rows_are_read_as_they_are_needed():
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for place in range(3000):
            taken += 1
            yield Row(str(place), item={"text": "fox"})

    outcomes = embedded(attached("qwen3_vl"), rows())
    assert next(outcomes)[0].id == "0"
    outcomes.close()
    assert taken < 3000


@pytest.mark.parametrize("suffix", ["jsonl", "npy", "parquet"])
def test_failed_run_leaves_what_was_there(tmp_path: Path, suffix: str):
    out = tmp_path / f"x.{suffix}"
    out.write_text("before")
    ran = run("embed", "--out", out, stdin=LINES + b'{"id": "t3"}\n')
    assert ran.status == 1
    assert ran.line == "btoks: line 4: nothing to embed; give text, image or video"
    assert [each.name for each in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "before"


def test_bad_items_are_skipped_and_reported(media: Path, tmp_path: Path):
    (media / "picture.dat").write_bytes((media / "picture.dat").read_bytes()[:60])
    ran = run("embed", media, tmp_path / "gone.jpg", "--on-error", "skip")
    assert ran.status == 0
    assert {Path(each["path"]).name for each in ran.records} == {"clip.txt", "note.md", "recipe"}
    *skipped, summary = ran.err.splitlines()
    assert [line.split(": ")[0] for line in skipped] == [
        f"skipped {media / 'picture.dat'}",
        f"skipped {tmp_path / 'gone.jpg'}",
    ]
    assert "2 skipped" in summary


def test_bad_lines_are_skipped_in_their_place():
    bad = b'{"id": "a", "txt": "x"}\n'
    ran = run("embed", "--on-error", "skip", stdin=bad + LINES + b"[\n")
    assert [each["id"] for each in ran.records] == ["t0", "t1", "t2"]
    first, last, summary = ran.err.splitlines()
    assert first == "skipped line 1: unknown key 'txt'; did you mean 'text'?"
    assert last.startswith("skipped line 5: not JSON")
    assert "3 embedded" in summary
    assert "2 skipped" in summary


def test_bad_media_of_a_line_are_reported_under_its_id(tmp_path: Path):
    line = json.dumps({"id": "mine", "image": str(tmp_path / "gone.png")}).encode() + b"\n"
    ran = run("embed", "--on-error", "skip", stdin=LINES + line)
    assert ran.err.startswith("skipped mine: ")
    assert "gone.png" in ran.err


def test_nothing_embedded_is_an_error(tmp_path: Path):
    ran = run("embed", "--on-error", "skip", "--out", tmp_path / "x.npy", stdin=b"1\n")
    assert ran.status == 1
    assert "none of its 1 items" in ran.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
    assert "it holds no items" in run("embed", stdin=b"").line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"text": 3}, "line 1: text is 3; give a text"),
        ({"text": "a", "page": 1}, "line 1: page without image; name the file in image"),
        ({"text": "a", "end": 1}, "line 1: end without video; name the file in video"),
        ({"image": "a.pdf", "page": True}, "line 1: page is true; give a whole number, from 1"),
        (["a"], "line 1: not an object"),
    ],
)
def test_wrong_lines_are_named(line: Any, told: str):
    ran = run("embed", stdin=json.dumps(line).encode())
    assert ran.status == 1
    assert ran.line.startswith(f"btoks: {told}")


def test_outputs_that_cannot_be_written_are_refused_at_once(tmp_path: Path):
    for out, told in (("x.csv", "no such output format"), ("no/x.npy", "no folder")):
        ran = run("embed", "--model", "nowhere", "--out", tmp_path / out, stdin=LINES)
        assert ran.status == 1
        assert told in ran.line


def test_terminal_on_stdin_is_not_waited_for():
    ran = run("embed", stdin=None)
    assert ran.status == 1
    assert "no files given" in ran.line
