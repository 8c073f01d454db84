"""`btoks index`, `search` and `library`: what they print is what the library gives; what is wrong is one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from btoks.library import Library, disk
from command import run

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["id", "path", "kind", "page", "start", "end", "score", "text"]


@pytest.fixture
def indexed(media: Path, tmp_path: Path) -> Path:
    """A library of the folder with media of every kind."""
    ran = run("index", media, "--library", tmp_path / "library")
    assert ran.status == 0, ran.err
    assert ran.err.splitlines()[-1].startswith("4 files: 0 unchanged, 0 known content")
    return tmp_path / "library"


def test_hits_are_those_of_the_library(indexed: Path, media: Path):
    ran = run("search", "a note about a fox", "--library", indexed, "--json", "--min-score", 0, "-k", 3)
    assert [list(each) for each in ran.records] == [KEYS] * 3
    assert ran.records == [hit.json() for hit in Library.open(indexed).search("a note about a fox", k=3, min_score=0)]
    shown = run("search", "a note", "--library", indexed, "--min-score", 0, "--filter", "kind = 'text'").out
    assert str(media / "deep" / "er" / "note.md") in shown
    assert "a note about a fox" in shown


def test_every_way_to_ask(indexed: Path, media: Path):
    everything = ("--library", indexed, "--json", "--min-score", 0)
    picture, clip, recipe = media / "picture.dat", media / "deep" / "clip.txt", media / "recipe"
    (first,) = run("search", "--image", picture, *everything, "-k", 1).records
    assert first["path"] == str(picture)
    assert run("search", "--video", clip, *everything, "-k", 1).records[0]["kind"] == "video"
    page = run("search", "--page", f"{recipe}:1", *everything, "-k", 1).records[0]
    assert (page["path"], page["page"]) == (str(recipe), 1)
    assert first["id"] not in [each["id"] for each in run("search", "--like", first["id"], *everything).records]
    plain, bent = (run("search", "fox", *more, *everything).records for more in ((), ("--not", "note")))
    assert [each["score"] for each in plain] != [each["score"] for each in bent]
    hybrid = run("search", "fox", "--hybrid", *everything, "-k", 1).records[0]
    assert hybrid["text"] == "a note about a fox"
    both = run("search", "a flag", "--image", picture, "--group", "file", *everything).records
    assert len({each["path"] for each in both}) == len(both) == 4


def test_nothing_that_matches_is_said(indexed: Path):
    ran = run("search", "fox", "--library", indexed, "--filter", "year < 1900")
    assert (ran.status, ran.out) == (0, "")
    assert "nothing here matches" in ran.line


def test_index_again_moves_and_prunes(indexed: Path, media: Path):
    (media / "deep").rename(media / "moved")
    (media / "picture.dat").unlink()
    report = run("index", media, "--library", indexed, "--prune", "--json").records[0]
    assert (report["unchanged"], report["reused"], report["embedded"], report["removed"]) == (1, 2, 0, 1)
    assert report["errors"] == []
    (media / "noise").write_bytes(b"\0\1")
    ran = run("index", media, "--library", indexed)
    assert ran.status == 0
    assert ran.err.startswith(f"bad file {media / 'noise'}: is neither")


def test_stats_check_and_compact(indexed: Path):
    stats = run("library", "stats", "--library", indexed, "--json").records[0]
    assert (stats["files"], stats["bad_files"], stats["dim"]) == (4, 0, 64)
    assert sum(stats["kinds"].values()) == stats["rows"]
    checked = run("library", "check", "--library", indexed, "--json")
    assert checked.status == 0
    assert checked.records[0]["recall"] == 1
    assert run("library", "compact", "--library", indexed, "--json").records[0]["bytes"] > 0
    assert "files" in run("library", "stats", "--library", indexed).out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("search", "fox", "--library", "nowhere"), "there is no library"),
        (("search", "--page", "x.pdf"), "write FILE.pdf:3"),
        (("search", "--image", "a", "--video", "b"), "give one of them"),
        (("search", "fox", "--filter", "kin = 1"), "did you mean 'kind'?"),
        (("index", "nowhere"), "it cannot be read"),
        (("index", ".", "--force"), "it belongs to --prune"),
        (("index", ".", "--model", "other"), "leave --model out"),
    ],
)
def test_what_is_wrong_is_one_line(
    indexed: Path, argv: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BTOKS_LIBRARY", str(indexed))
    ran = run(*argv)
    assert ran.status == 1
    assert told in ran.line


def test_a_second_writer_is_told(indexed: Path, media: Path):
    with disk.writing(indexed, wait=0):
        ran = run("index", media, "--library", indexed, "--wait", 0.2)
    assert ran.status == 1
    assert "another process writes to it" in ran.err
