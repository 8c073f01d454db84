"""`btoks ask`: the answer that the library gives, its sources, and what is said of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btoks.library import Library
from command import run

if TYPE_CHECKING:
    from pathlib import Path


def test_answers_from_originals_and_from_memories(media: Path, tmp_path: Path) -> None:
    indexed = run("index", media, "--library", tmp_path / "library", "--keep-memory")
    assert indexed.status == 0, indexed.err
    library = Library.open(tmp_path / "library")
    bytes_each = library.stats()["bytes_per_memory"]
    assert indexed.err.splitlines()[-1] == f"memories of {bytes_each:,} bytes a part kept"
    everything = ("--library", tmp_path / "library", "--min-score", 0, "--max-new-tokens", 4)
    for more in ((), ("--from-memory",)):
        ran = run("ask", "what is it?", *everything, *more, "--json")
        assert "small demonstration" in ran.line
        want = library.ask("what is it?", from_memory=bool(more), min_score=0, max_new_tokens=4)
        assert ran.records == [want.json()]
        shown = run("ask", "what is it?", *everything, *more, "-k", 20).out.splitlines()
        assert sorted(line.partition(" ")[2] for line in shown if line.startswith("[")) == sorted(
            [
                f"{media}/picture.dat",
                f"{media}/recipe, page 1",
                f"{media}/deep/er/note.md",
                *(line.partition(" ")[2] for line in shown if "clip.txt, 0:0" in line),
            ]
        )


def test_what_cannot_be_answered_is_one_line(media: Path, tmp_path: Path) -> None:
    place = ("--library", tmp_path / "library")
    run("index", media / "deep" / "er", *place)
    ran = run("ask", "what?", *place, "--from-memory")
    assert ran.status == 1
    assert ran.err.splitlines()[-1].endswith(
        "library: it keeps no memories; index into a new library with --keep-memory"
    )
    assert "it was made without memories" in run("index", media, *place, "--keep-memory").line
    ran = run("ask", "what?", *place, "--filter", "year < 1900")
    assert (ran.status, ran.out) == (0, "")
    assert "nothing here matches" in ran.err
