"""Vectors brought along: a search equals brute force, exactly, also under any filter and through the index."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.library import Library, background, store

if TYPE_CHECKING:
    from pathlib import Path

N, D = 3000, 32
IDS = [f"i{number:04}" for number in range(N)]


def made(seed: int = 0, count: int = N) -> Any:
    """Unit vectors around a few centres, some of them twice, so that there are ties."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, D))
    vectors = centres[rng.integers(0, 12, count)] + 0.5 * rng.normal(size=(count, D))
    twins = count // 10
    vectors[count - twins :] = vectors[:twins]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute(vectors: Any, query: Any, k: int = 10, mask: Any = None) -> list[str]:
    """Every score, sorted by score, then id."""
    places = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    scores = np.round(vectors[places] @ query, 6)
    return [IDS[places[at]] for at in sorted(range(len(places)), key=lambda at: (-scores[at], IDS[places[at]]))[:k]]


def found(library: Library, query: Any, **options: Any) -> list[str]:
    """Ids of the hits, where scores equal up to rounding are put in the order of their ids."""
    hits = library.search_vector(query, **options)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return [hit.id for hit in sorted(hits, key=lambda hit: (-round(2 * hit.score - 1, 6), hit.id))]


METADATA = [
    {"number": place, "kind": ("text", "image")[place % 2], "folder": f"a/{place % 5}", "year": 2000 + place % 20}
    for place in range(N)
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made_here = Library.create(tmp_path_factory.mktemp("vectors") / "library", model=None)
    assert made_here.add_vectors(IDS, made(), METADATA) == N
    return made_here


def test_search_equals_brute_force(library: Library) -> None:
    vectors = made()
    for query in (*made(1, 20), *vectors[:20]):
        assert found(library, query, k=11) == brute(vectors, query, 11)


def test_a_hundred_filters_give_all_that_match(library: Library) -> None:
    rng, vectors = np.random.default_rng(3), made()
    for query in made(4, 100):
        most = int(np.exp(rng.uniform(0, np.log(N))))
        hits = found(library, query, where=f"number < {most}")
        assert hits == brute(vectors, query, mask=np.arange(N) < most)
        assert len(hits) == min(10, most)


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        ("kind = 'image' and year >= 2010", lambda m: m["kind"] == "image" and m["year"] >= 2010),
        ("folder like 'a/3/%'", lambda m: m["folder"] == "a/3"),
        ("folder not like 'a/%'", lambda m: False),
        ("folder = 'a/1' or number in (5, 7)", lambda m: m["folder"] == "a/1" or m["number"] in (5, 7)),
        ("id like 'i000%'", lambda m: m["number"] < 10),
    ],
)
def test_filter_columns(library: Library, where: str, keeps: Any) -> None:
    query, vectors = made(6, 1)[0], made()
    mask = np.array([bool(keeps(each)) for each in METADATA])
    assert found(library, query, where=where) == brute(vectors, query, mask=mask)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("yaer > 3", "did you mean 'year'?"),
        ("year >", "it is no condition"),
        ("year = 'x'", "it is no condition"),
        ("score > 0.5", "a score belongs to a query"),
    ],
)
def test_wrong_filters_are_named(library: Library, where: str, told: str) -> None:
    with pytest.raises(BtoksError, match="filter") as error:
        library.search_vector(made(6, 1)[0], where=where)
    assert told in str(error.value)
    assert str(library.path) not in str(error.value)


def test_through_the_index_filters_still_give_all_that_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EXACT_BELOW", 1000)
    library = Library.create(tmp_path / "library", model=None)
    library.add_vectors(IDS[:2500], made()[:2500], METADATA[:2500])
    library.add_vectors(IDS[2500:], made()[2500:], METADATA[2500:])
    indexed(library, 2500)
    rng, vectors, same = np.random.default_rng(3), made(), 0
    for query in made(4, 40):
        most = int(np.exp(rng.uniform(0, np.log(N))))
        hits = found(library, query, where=f"number < {most}")
        wanted = brute(vectors, query, mask=np.arange(N) < most)
        assert len(hits) == len(wanted) == min(10, most)
        same += len(set(hits) & set(wanted)) / len(wanted)
    assert same / 40 >= 0.95
    facts = library.check()
    assert not facts["exact"]
    assert facts["recall"] >= 0.95


def indexed(library: Library, rows: int) -> None:
    """Wait until another process has indexed so many rows."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        facts = library._store.table.index_stats("vector_idx")
        if facts is not None and facts.num_indexed_rows >= rows:
            return
        time.sleep(0.05)
    pytest.fail("no index was built")


def test_the_index_is_built_beside_writer_and_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process builds it; this one writes and searches on, and loses nothing by it."""
    monkeypatch.setattr(store, "EXACT_BELOW", 1000)
    library, vectors = Library.create(tmp_path / "library", model=None), made()
    for start in range(0, N, 500):
        library.add_vectors(IDS[start : start + 500], vectors[start : start + 500])
        hits = library.search_vector(vectors[start], k=2)
        assert IDS[start] in [hit.id for hit in hits]
    assert background._running[str(library.path)].wait() == 0
    indexed(library, 1000)
    library.compact()
    assert library.stats()["rows"] == N
    assert library.check()["recall"] >= 0.95


def test_a_killed_index_build_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EXACT_BELOW", 1000)
    library, vectors = Library.create(tmp_path / "library", model=None), made()
    library.add_vectors(IDS[:2000], vectors[:2000])
    background._running[str(library.path)].kill()
    background._running[str(library.path)].wait()
    library.add_vectors(IDS[2000:], vectors[2000:])
    indexed(library, 2000)
    assert library.check()["recall"] >= 0.95


def test_same_ids_take_the_old_ones_place(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None)
    library.add_vectors(["a", "b"], np.eye(4)[:2])
    library.add_vectors(["b", "c"], np.eye(4)[2:], [{"text": "new"}, {"text": "third"}])
    assert library.stats()["rows"] == 3
    assert [(hit.id, hit.text) for hit in library.search_vector([0, 0, 1, 0], k=1)] == [("b", "new")]
    assert library.remove(["b", "b", "nothing"]) == 1
    assert "b" not in [hit.id for hit in library.search_vector([0, 0, 1, 0])]
    assert [hit.id for hit in Library.open(tmp_path / "library").search_vector([0, 0, 0, 2], k=1)] == ["c"]


def test_vectors_are_checked_at_the_border(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None)
    assert library.search_vector([1.0, 0.0]) == []
    library.add_vectors(["a"], [[3.0, 4.0]], [{"size": 1}])
    assert library.search_vector([6.0, 8.0])[0].score == pytest.approx(1)
    bad = (
        (["b"], [[0.0, 0.0]], None, "zero or not finite"),
        (["b"], [[np.nan, 1.0]], None, "zero or not finite"),
        (["b"], [[1.0, 1.0, 1.0]], None, "3 dimensions, the library's have 2"),
        (["b", "b"], [[1.0, 0.0]] * 2, None, "given twice"),
        (["b"], [[1.0, 0.0]] * 2, None, "give as many"),
        (["b"], [[1.0, 0.0]], [{"size": "big"}], "its column holds int"),
        (["b"], [[1.0, 0.0]], [{"score": 1}], "cannot be a column"),
        (["b"], [[1.0, 0.0]], [{"year": "now"}], "its column holds int"),
    )
    for ids, vectors, metadata, told in bad:
        with pytest.raises(BtoksError, match=told):
            library.add_vectors(ids, vectors, metadata)
    with pytest.raises(BtoksError, match="zero or not finite"):
        library.search_vector([0.0, np.inf])
    assert library.stats()["rows"] == 1


def test_without_a_model_only_vectors_are_taken(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None)
    with pytest.raises(BtoksError, match="use add_vectors"):
        library.add([tmp_path])
    with pytest.raises(BtoksError, match="use search_vector"):
        library.search("fox")
    with pytest.raises(BtoksError, match="not empty"):
        Library.create(tmp_path / "library", model=None)
    with pytest.raises(BtoksError, match="there is no library"):
        Library.open(tmp_path)


def test_an_open_library_sees_what_others_write_and_survives_a_clean_up(tmp_path: Path) -> None:
    writer = Library.create(tmp_path / "library", model=None)
    writer.add_vectors(["a"], np.eye(3)[:1])
    reader = Library.open(tmp_path / "library")
    assert len(reader.search_vector([1, 0, 0])) == 1
    writer.add_vectors(["b"], np.eye(3)[1:2])
    assert len(reader.search_vector([1, 0, 0])) == 2
    writer.remove(["a"])
    writer.compact()
    assert [hit.id for hit in reader.search_vector([1, 0, 0])] == ["b"]


def test_a_deleted_item_is_gone_from_disk_after_compaction(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None)
    texts = [{"text": "harmless words"}, {"text": "Geheimnis"}]
    library.add_vectors(["keep", "drop"], np.eye(2), texts)

    def on_disk() -> bool:
        return any(b"eheimnis" in path.read_bytes() for path in library.path.rglob("*") if path.is_file())

    assert on_disk()
    library.remove(["drop"])
    stray = next(library.path.glob("items.lance/data")) / "left.tmp123"
    stray.write_bytes(b"x")
    library.compact()
    assert not on_disk()
    assert not stray.exists()
    assert [hit.id for hit in library.search_vector([1, 1])] == ["keep"]


def test_a_table_left_without_its_indexes_gets_them(tmp_path: Path) -> None:
    """As a writer leaves it that was killed between making the table and its indexes."""
    library = Library.create(tmp_path / "library", model=None)
    library.add_vectors(["a"], [[1.0, 0.0]], [{"text": "fox"}])
    for index in library._store.table.list_indices():
        library._store.table.drop_index(index.name)
    again = Library.open(tmp_path / "library")
    again.add_vectors(["b"], [[0.0, 1.0]], [{"text": "owl"}])
    assert again._store.find("fox", 5) == ["a"]


def test_what_a_killed_creation_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "queries.npy").write_bytes(b"half")
    assert Library.create(tmp_path / "library", model=None).stats()["rows"] == 0
