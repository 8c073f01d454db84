"""A library whose items have several vectors: a search is MaxSim, exactly, also through the store's own index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import btoks
from btoks.errors import BtoksError
from btoks.library import Library, background, store
from btoks.similarity import similarity
from items import fresh, near, streamed
from library.stored import vectors, write

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    f"{colour} {thing}" for colour in ("a red", "the blue", "two green") for thing in ("fox", "bus", "house", "book")
]
K, D = 4, 64


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late") / "model"
    btoks.save(fresh("qwen3", pooling="late_interaction"), folder)
    return folder


@pytest.fixture
def library(late: Path, tmp_path: Path) -> Library:
    for place, text in enumerate(TEXTS):
        write(tmp_path / "notes", f"{place}.txt", text)
    made = Library.create(tmp_path / "library", model=late)
    assert made.add(tmp_path / "notes").embedded == len(TEXTS)
    return made


def by_hand(library: Library, query: str) -> dict[str, float]:
    """MaxSim of the query with the text of every item, embedded on the spot."""
    rows = {row["id"]: row["text"] for row in library._store.get("id IS NOT NULL", ["id", "text"])}
    asked, told = (
        torch.from_numpy(streamed(library.model, texts, task=task))
        for texts, task in (([query], "query"), (list(rows.values()), "document"))
    )
    return dict(zip(rows, similarity(library.model, asked, told)[0].tolist(), strict=True))


@pytest.mark.parametrize("indexed", [False, True])
def test_a_search_is_maxsim(library: Library, indexed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if indexed:
        background.build(library.path, 1)
        monkeypatch.setattr(store, "EXACT_BELOW", 1)
        assert "vector_idx" in {each.name for each in library._store.table.list_indices()}
    assert library._store.in_memory != indexed
    for query in ("a blue bus", "who reads"):
        wanted = by_hand(library, query)
        hits = library.search(query, k=len(TEXTS), min_score=0)
        assert [hit.id for hit in hits] == sorted(wanted, key=lambda name: (-wanted[name], name))
        (query_E,) = streamed(library.model, [query], task="query")
        found = dict(library._store.search(query_E, len(TEXTS)))
        near(np.array([found[name] for name in wanted]), np.array(list(wanted.values())))


def test_the_column_holds_the_vectors_of_an_item_apart(library: Library) -> None:
    assert str(library._store.table.schema.field("vector").type) == f"list<item: fixed_size_list<item: float>[{D}]>"
    assert library.stats()["bytes_per_vector"] == 4 * K * D
    held = vectors(Library.open(library.path))
    assert {each.shape for each in held.values()} == {(K * D,)}
    for each in held.values():
        near(np.linalg.norm(each.reshape(K, D), axis=1), np.full(K, K**-0.5))
    name = min(held)
    alike = library._store.search(held[name], 3)
    assert alike[0] == (name, pytest.approx(1.0))
    assert {hit.id for hit in library.search(like=[name], k=2, min_score=0)} <= held.keys() - {name}


def test_an_exported_vector_is_flat(library: Library, tmp_path: Path) -> None:
    import pyarrow.parquet

    library.export(tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert {len(each) for each in table["vector"].to_pylist()} == {K * D}


def test_codes_are_refused(library: Library, late: Path, tmp_path: Path) -> None:
    with pytest.raises(BtoksError, match="keeps 4 vectors an item"):
        Library.create(tmp_path / "other", model=late, quantize="int8")
    with pytest.raises(BtoksError, match="keeps 4 vectors an item"):
        library.reindex(quantize="int8")
