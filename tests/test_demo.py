"""The demo: what it embeds, what it finds, how it prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from btoks import demo
from btoks.bundled import captions, sample
from command import run
from items import attached


@pytest.fixture(scope="module")
def embedded() -> tuple[list[demo.Place], np.ndarray]:
    return demo.embed_sample(attached("qwen3_vl"))


def test_every_file_and_every_page_of_the_sample_is_embedded(embedded: tuple[list[demo.Place], np.ndarray]) -> None:
    places, vectors_ND = embedded
    files = {path.relative_to(sample()).as_posix() for path in sample().rglob("*.*") if path.parent != sample()}
    assert {path for path, _, _ in places} == files
    assert {kind for _, kind, _ in places} == {"text", "image", "video", "page"}
    pages = {(path, page) for path, kind, page in places if kind == "page"}
    assert pages == {(c.path.relative_to(sample()).as_posix(), c.page) for c in captions() if c.page}
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-5)
    assert len(places) == len(vectors_ND)


def test_hits_are_the_nearest_in_order_and_a_picture_does_not_find_itself(
    embedded: tuple[list[demo.Place], np.ndarray],
) -> None:
    model, (places, vectors_ND) = attached("qwen3_vl"), embedded
    picture = Path("flags/brazil.png")
    hits = demo.search(model, picture, places, vectors_ND, k=len(places) - 1)
    own = vectors_ND[[path for path, _, _ in places].index("flags/brazil.png")]
    want = sorted(float(score) for score in vectors_ND @ own)[::-1]
    assert "flags/brazil.png" not in [hit.path for hit in hits]
    np.testing.assert_allclose([hit.score for hit in hits], want[1:], atol=1e-4)


def test_the_demo_prints_four_queries_as_a_table_or_as_lines() -> None:
    shown = run("demo")
    assert shown.status == 0
    assert all(str(query) in shown.out for query in demo.QUERIES)
    lines = run("demo", "--json").records
    asked = [next(iter(line["query"].values())) for line in lines]
    assert asked == [str(query) for query in demo.QUERIES]
    assert all(list(hit) == ["path", "kind", "page", "score"] for line in lines for hit in line["hits"])
    assert all(len(line["hits"]) == 5 and line["seconds"] > 0 for line in lines)


def test_the_queries_are_about_what_the_sample_holds() -> None:
    pictures = [query for query in demo.QUERIES if isinstance(query, Path)]
    assert all((sample() / picture).is_file() for picture in pictures)
