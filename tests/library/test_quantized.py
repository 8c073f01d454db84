"""A library whose vectors are codes: it finds what the method finds, and takes the bytes that it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btoks import methods
from btoks.errors import BtoksError
from btoks.library import Library, quantized
from btoks.methods.quantize import Codes

if TYPE_CHECKING:
    from pathlib import Path

N, D = 1200, 32
IDS = [f"i{number:04}" for number in range(N)]
METADATA = [{"number": place, "kind": ("text", "image")[place % 2], "text": f"word{place}"} for place in range(N)]
SPECS = ("pca:0.5+float8", "int8", "binary", "pq:8")


def made(seed: int = 0, count: int = N) -> Any:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, D))[rng.integers(0, 12, count)] + 0.5 * rng.normal(size=(count, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def library_of(folder: Path, **options: Any) -> Library:
    library = Library.create(folder, model=None, **options)
    library.add_vectors(IDS, made(), METADATA)
    return library


def expected(library: Library, query: Any, k: int, mask: Any = None) -> list[str]:
    """The best by the method's own scores of all codes at once."""
    codec = library._store.codec
    assert codec is not None
    codes = Codes(codec.codes.encode(made()).data_NB, D)
    scores = codec.codes.score(query[None], codes)[0]
    places = np.arange(N) if mask is None else np.flatnonzero(mask)
    return [IDS[place] for place in sorted(places, key=lambda at: (-scores[at], IDS[at]))[:k]]


@pytest.mark.parametrize("spec", SPECS)
def test_search_is_the_methods_own_order(tmp_path: Path, spec: str) -> None:
    library = library_of(tmp_path / "library", quantize=spec)
    assert {"codes"} == set(library._store.table.schema.names) & {"vector", "codes", "fine"}
    assert str(library._store.table.schema.field("codes").type) == f"fixed_size_binary[{width(spec)}]"
    even = np.arange(N) % 2 == 0
    for query in made(1, 5):
        assert [hit.id for hit in library.search_vector(query, k=7)] == expected(library, query, 7)
        hits = library.search_vector(query, k=7, where="kind = 'text' and number < 100")
        assert [hit.id for hit in hits] == expected(library, query, 7, even & (np.arange(N) < 100))
    facts = library.check()
    assert (facts["exact"], facts["recall"]) == (True, 1.0)


def width(spec: Any) -> int:
    return int(methods.create("quantize", spec).bytes_per_vector(D))


def test_bytes_on_disk_are_the_closed_form(tmp_path: Path) -> None:
    """Rows of two methods differ by their codes alone; what is left is ids, metadata and the codebooks' file."""
    held = {}
    for spec in ("float32", *SPECS):
        library = library_of(tmp_path / spec, quantize=spec)
        library.compact()
        data = sum(path.stat().st_size for path in library.path.glob("items*.lance/data/*"))
        held[spec] = data - N * width(spec)
        assert library.stats()["bytes_per_vector"] == width(spec)
        (*books,) = library.path.glob("codebooks-*.safetensors")
        if books:
            codec = library._store.codec
            assert codec is not None
            assert codec.nbytes <= books[0].stat().st_size <= codec.nbytes + 2048
    rest = list(held.values())
    assert min(rest) > 0
    assert max(rest) - min(rest) <= 4096


def test_vectors_stay_float_until_there_are_enough_to_fit(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None, quantize="pca:0.5+int8")
    vectors = made()
    library.add_vectors(IDS[: 4 * D - 1], vectors[: 4 * D - 1])
    assert library._store.codec is None
    assert library.search_vector(vectors[5], k=1)[0].score == pytest.approx(1, abs=1e-6)
    library.add_vectors(IDS[4 * D - 1 :], vectors[4 * D - 1 :])
    assert library._store.codec is not None
    assert Library.open(library.path).stats()["rows"] == N
    assert library.search_vector(vectors[5], k=1)[0].id == IDS[5]
    assert not (library.path / "items.lance").exists()


def test_it_is_fitted_on_the_first_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "FIT", 200)
    library = library_of(tmp_path / "library", quantize="int8")
    codec = library._store.codec
    assert codec is not None
    alone = methods.create("quantize", "int8").fit(made()[:200])
    for key, learnt in alone.state.items():
        np.testing.assert_array_equal(codec.codes.state[key], learnt)


def test_later_rows_are_coded_too_and_moved_ones_keep_their_codes(tmp_path: Path) -> None:
    library = library_of(tmp_path / "library", quantize="int8")
    more = made(9, 50)
    library.add_vectors([f"new{place}" for place in range(50)], more)
    assert [library.search_vector(vector, k=1)[0].id for vector in more[:5]] == [f"new{place}" for place in range(5)]
    (row,) = library._store.by("id", ["new3"])
    library._store.put([{**row, "text": "renamed"}])
    assert library._store.by("id", ["new3"]) == [{**row, "text": "renamed"}]
    assert library.remove(["new3"]) == 1
    assert library.stats()["rows"] == N + 49


def test_a_finer_copy_decides_among_the_best(tmp_path: Path) -> None:
    coarse, fine = (
        library_of(tmp_path / f"{bool(rescore)}", quantize="binary", rescore=rescore) for rescore in (None, "float16")
    )
    vectors, right = made(), {False: 0, True: 0}
    for query in made(1, 30):
        exact = {IDS[place] for place in np.argsort(-(vectors @ query), kind="stable")[:10]}
        right[False] += len(exact & {hit.id for hit in coarse.search_vector(query)})
        right[True] += len(exact & {hit.id for hit in fine.search_vector(query)})
    assert right[True] > 1.3 * right[False]
    hit = fine.search_vector(vectors[3], k=1)[0]
    assert (hit.id, hit.score) == (IDS[3], pytest.approx(1, abs=1e-3))
    assert fine.stats()["bytes_per_vector"] == width("binary") + width("float16")
    assert fine.check()["recall"] > 0.8 > right[False] / 300


def test_decoded_vectors_stand_in_for_vectors(tmp_path: Path) -> None:
    """What reads vectors, such as a search for more like a hit, reads those that the codes stand for."""
    library = library_of(tmp_path / "library", quantize="float8")
    near = library._store.vectors(IDS[:20])
    for place, name in enumerate(IDS[:20]):
        assert near[name] @ made()[place] > 0.99 * np.linalg.norm(near[name])
    sample = library._store.sample(100)
    assert set(sample.kinds) == {"text", "image"}
    assert all(len(ids) == len(vectors) >= 50 for ids, vectors in sample.kinds.values())


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for options, told in (
        ({"quantize": "pqq:8"}, "did you mean"),
        ({"quantize": "ivf_rq", "rescore": "float16"}, "no codes to rescore"),
        ({"rescore": "float16"}, "no codes to rescore"),
    ):
        with pytest.raises(BtoksError, match=told):
            Library.create(tmp_path / "library", model=None, **options)
        assert not (tmp_path / "library").exists()


def test_no_more_codes_than_a_search_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of(tmp_path / "library", quantize="int8")
    monkeypatch.setattr(quantized, "MOST", N + 1)
    with pytest.raises(BtoksError, match="--quantize ivf_rq"):
        library.add_vectors(["a", "b"], made(3, 2))
    assert library.stats()["rows"] == N
