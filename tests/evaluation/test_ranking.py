"""Batched rankings equal a loop over queries, ties and copies included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.evaluation import ranking
from btoks.evaluation.ranking import rank_all, rank_lists


def by_hand(
    query_D: np.ndarray, corpus_ND: np.ndarray, places: Sequence[int], relevant: set[int], order: np.ndarray
) -> list[int]:
    scores = {
        place: sum(float(a) * float(b) for a, b in zip(query_D, corpus_ND[place], strict=True)) for place in places
    }
    return sorted(places, key=lambda place: (-scores[place], place in relevant, order[place]))


def whole_numbers(seed: int, queries: int, candidates: int, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose products are exact, so that many scores coincide."""
    dice = np.random.default_rng(seed)
    return tuple(dice.integers(-2, 3, (count, dim)).astype(np.float32) for count in (queries, candidates))


@pytest.fixture(params=[7, 1 << 24], ids=["small blocks", "one block"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_SCORES", request.param)
    monkeypatch.setattr(ranking, "_PAIRS", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("depth", [1, 3, 10, 50, 500])
def test_all_candidates_equal_the_loop(depth: int) -> None:
    queries, corpus = whole_numbers(depth, 23, 60)
    dice = np.random.default_rng(1)
    relevant = [dice.choice(60, 3, replace=False) for _ in queries]
    order = dice.permutation(60)
    places, scores = rank_all(queries, corpus, depth, relevant=relevant, order_N=order)
    for row, query in enumerate(queries):
        want = by_hand(query, corpus, range(60), set(relevant[row]), order)[:depth]
        assert places[row].tolist() == want
        assert scores[row].tolist() == [float(query @ corpus[place]) for place in want]


@pytest.mark.usefixtures("_blocks")
def test_own_lists_equal_the_loop_and_keep_their_duplicates() -> None:
    queries, corpus = whole_numbers(3, 31, 40)
    dice = np.random.default_rng(2)
    lists = [dice.choice(40, dice.integers(1, 12)) for _ in queries]
    relevant = [each[:1] for each in lists]
    found = rank_lists(queries, corpus, lists, relevant=relevant)
    for row, (places, scores) in enumerate(found):
        want = by_hand(queries[row], corpus, lists[row].tolist(), set(relevant[row]), np.arange(40))
        assert places.tolist() == want
        assert scores.tolist() == [float(queries[row] @ corpus[place]) for place in want]


@pytest.mark.parametrize("candidates", [7, 100, 333])
def test_equal_vectors_put_what_is_relevant_last(candidates: int) -> None:
    """A model that maps everything to one point gets nothing right, in blocks of any shape."""
    vector = np.random.default_rng(0).normal(size=96).astype(np.float32)
    queries, corpus = np.tile(vector, (50, 1)), np.tile(vector, (candidates, 1))
    relevant = [np.array([row % candidates]) for row in range(50)]
    places, _ = rank_all(queries, corpus, candidates, relevant=relevant)
    assert [row[-1] for row in places] == [each[0] for each in relevant]
    lists = [np.arange(candidates)] * 50
    found = rank_lists(queries, corpus, lists, relevant=relevant)
    assert [places[-1] for places, _ in found] == [each[0] for each in relevant]


def test_near_equal_scores_are_not_ties() -> None:
    queries = np.array([[1, 0]], np.float32)
    corpus = np.array([[0.5, 0], [np.nextafter(np.float32(0.5), np.float32(1)), 0]], np.float32)
    assert rank_all(queries, corpus, 2, relevant=[np.array([1])])[0].tolist() == [[1, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    good, broken = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    broken[1, 0] = bad
    with pytest.raises(BtoksError, match=r"candidate 1: .* NaN"):
        rank_all(good, broken, 1)
    with pytest.raises(BtoksError, match=r"query 1: .* NaN"):
        rank_lists(broken, good, [np.array([0])] * 3)
