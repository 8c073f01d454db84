"""Searching files: calibrated scores, full text, groups, likes and dislikes, each against a plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import btoks
from btoks.bundled import sample
from btoks.errors import BtoksError
from btoks.library import Library, calibration, settings, store
from items import attached, streamed
from library.stored import write

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYS = ["id", "path", "kind", "page", "start", "end", "score", "text"]


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Flags, notes and a PDF of the sample, and a text in passages."""
    made = Library.create(tmp_path_factory.mktemp("searching") / "library", model=model)
    long = write(tmp_path_factory.mktemp("more"), "long.txt", " ".join(f"common{n % 7} word{n}" for n in range(400)))
    notes = sorted((sample() / "notes").iterdir())[:12]
    made.add([sample() / "flags", *notes, sample() / "documents" / "recipe-shakshouka.pdf", long])
    return made


def rows(library: Library) -> list[dict[str, Any]]:
    return sorted(library._store.get("id IS NOT NULL"), key=lambda row: row["id"])


def asked(query: Any) -> NDArray[np.float32]:
    vector = streamed(attached("qwen3_vl"), [query], task="query")[0]
    return vector / np.linalg.norm(vector)


def brute(library: Library, vector: Any, keep: Any = lambda row: True) -> list[tuple[str, float]]:
    """The calibrated score of every row, by score, then id."""
    everything, phrases = rows(library), settings.embedded(attached("qwen3_vl"))
    scores = []
    for kind in {row["kind"] for row in everything}:
        of_kind = [row for row in everything if row["kind"] == kind]
        unrelated = phrases @ np.array([row["vector"] for row in of_kind]).T
        values = (unrelated - unrelated.mean()) / unrelated.std()
        top = np.quantile(values.max(axis=1), 0.75)
        for row in of_kind:
            value = (float(np.dot(row["vector"], vector)) - unrelated.mean()) / unrelated.std() - top
            scores += [(row["id"], calibration.score(value))] if keep(row) else []
    return sorted(scores, key=lambda each: (-each[1], each[0]))


def agree(hits: list[Any], want: list[tuple[str, float]]) -> None:
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in want], atol=1e-4)
    assert {hit.id for hit in hits[:-1]} <= {name for name, _ in want}


def test_scores_equal_their_definition(library: Library) -> None:
    for query in ("the flag of Brazil", "a plate of eggs", "common3 word10"):
        want = brute(library, asked(query))
        agree(library.search(query, k=len(want), min_score=0), want)
        agree(library.search(query, k=5, min_score=0), want[:5])
        agree(library.search(query, k=len(want)), [each for each in want if each[1] >= 0.5])
        agree(library.search(query, k=9, min_score=0.3), [each for each in want if each[1] >= 0.3][:9])


def test_filters_leave_the_scores_as_they_are(library: Library) -> None:
    want = brute(library, asked("fox"), lambda row: row["kind"] == "image" and row["path"].endswith("l.png"))
    agree(library.search("fox", 50, "kind = 'image' and path like '%l.png'", min_score=0), want)


def test_a_hit_has_the_promised_keys_and_lies_between_zero_and_one(library: Library) -> None:
    hits = library.search("recipe", k=100, min_score=0)
    assert len(hits) == len(rows(library))
    for hit in hits:
        assert list(hit.json()) == KEYS
        json.dumps(hit.json())
        assert 0 <= hit.score <= 1
        assert hit.path is not None
        assert Path(hit.path).is_file()
        assert (hit.page is not None) == (hit.kind == "pdf")
    assert [(hit.score, hit.id) for hit in hits] == sorted(((h.score, h.id) for h in hits), key=lambda e: (-e[0], e[1]))


def test_a_picture_finds_itself_and_a_library_of_unrelated_things_does_not_match(library: Library) -> None:
    brazil = sample() / "flags" / "brazil.png"
    for query in (brazil, btoks.Source(brazil), {"image": str(brazil)}):
        assert library.search(query, k=1)[0].path == str(brazil)
    queries = [f"nothing {word} of this is here" for word in ("zinc", "velvet", "harbour", "syntax", "gravel", "opera")]
    answered = sum(bool(library.search(query)) for query in queries)
    assert answered <= len(queries) // 2


def test_above_the_exact_limit_the_scores_stay(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    before = library.search("the flag of Brazil", k=8, min_score=0)
    monkeypatch.setattr(store, "EXACT_BELOW", 10)
    after = Library.open(library.path).search("the flag of Brazil", k=8, min_score=0)
    agree(after, [(hit.id, hit.score) for hit in before])


def test_hybrid_is_the_fusion_of_both_rankings(library: Library) -> None:
    query = "word123 shakshouka"
    near = [hit.id for hit in library.search(query, k=100)]
    words = library._store.find(query, 100)
    assert words
    fused: dict[str, float] = {}
    for ranking in (near, words):
        for rank, name in enumerate(ranking, 1):
            fused[name] = fused.get(name, 0) + 61 / (60 + rank) / 2
    want = sorted(fused.items(), key=lambda each: (-each[1], each[0]))
    hits = library.search(query, k=100, hybrid=True)
    assert [(hit.id, pytest.approx(hit.score)) for hit in hits] == want
    assert {"word123" in (hit.text or "") for hit in hits if hit.id in words} == {True, False}
    only = library.search("word123", k=1, hybrid=True, where="path like '%long.txt'")
    assert "word123" in (only[0].text or "")
    with pytest.raises(BtoksError, match="the query has no text"):
        library.search(sample() / "flags" / "brazil.png", hybrid=True)


def test_one_hit_a_file(library: Library) -> None:
    where = "path like '%long.txt' or path like '%.pdf'"
    everything = library.search("common3", k=100, where=where, min_score=0)
    assert len(everything) > 2
    grouped = library.search("common3", k=100, where=where, min_score=0, group="file")
    first = [next(hit for hit in everything if hit.path == path) for path in dict.fromkeys(h.path for h in everything)]
    assert grouped == first
    assert len(library.search("common3", k=3, min_score=0, group="file")) == 3


def test_like_and_without(library: Library) -> None:
    of_path = {row["path"].rpartition("/")[2]: row for row in rows(library)}
    liked, other = of_path["brazil.png"], of_path["japan.png"]
    hits = library.search(like=liked["id"], k=10, where="kind = 'image'", min_score=0)
    images = [row for row in rows(library) if row["kind"] == "image" and row["id"] != liked["id"]]
    cosines = {row["id"]: float(np.dot(row["vector"], liked["vector"])) for row in images}
    assert [hit.id for hit in hits] == sorted(cosines, key=lambda name: (-cosines[name], name))[:10]
    query = asked("a flag")
    against = query - 0.5 * asked(btoks.Source(other["path"]))
    want = brute(library, against / np.linalg.norm(against))
    agree(library.search("a flag", k=20, min_score=0, without=Path(other["path"])), want[:20])
    both = 2 * asked("a flag") + asked("red")
    agree(
        library.search([("a flag", 2), ("red", 1)], k=20, min_score=0), brute(library, both / np.linalg.norm(both))[:20]
    )
    with pytest.raises(BtoksError, match="the library has none of this id"):
        library.search(like="nothing")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": " "}, "it is empty"),
        ({}, "there is none"),
        ({"query": "fox", "k": 0}, "asks for nothing"),
        ({"query": "fox", "group": "page"}, "there is no such group"),
        ({"query": Path("/not/there.png")}, "there.png"),
    ],
)
def test_wrong_queries_are_named(library: Library, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BtoksError, match=told):
        library.search(**options)
