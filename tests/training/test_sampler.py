"""Batches come in blocks of one data set, alike for the same seed, each device its share."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btoks.errors import BtoksError
from btoks.training.sampler import Place, Plan, Share


def plan(**changed: Any) -> Plan:
    settings: dict[str, Any] = {"lengths": (10, 7), "weights": (1.0, 3.0), "shuffled": (False, True), "batch": 2}
    return Plan(**{**settings, "block": 4, **changed})


def test_a_batch_is_of_one_data_set_and_a_block_is_consecutive() -> None:
    batches = list(plan(steps=20, shuffled=(False, False)).batches())
    assert len(batches) == 20
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        block = [*first, *second]
        assert len({place.dataset for place in block}) == 1
        length = (10, 7)[block[0].dataset]
        given = [place.passed * length + place.number for place in block]
        assert given == list(range(given[0], given[0] + 4))


def test_a_batch_larger_than_the_block_is_still_of_one_data_set() -> None:
    for batch in plan(batch=6, block=4, steps=5).batches():
        assert len(batch) == 6
        assert len({place.dataset for place in batch}) == 1


def test_data_sets_are_drawn_by_weight() -> None:
    drawn = Counter(batch[0].dataset for batch in plan(steps=4000, block=2).batches())
    assert drawn[1] / 4000 == pytest.approx(0.75, abs=0.03)


def test_the_seed_decides() -> None:
    assert list(plan(steps=9).batches()) == list(plan(steps=9).batches())
    assert list(plan(steps=9).batches()) != list(plan(steps=9, seed=1).batches())


def test_shuffled_passes_hold_every_row_once_and_differ() -> None:
    places = [
        place for batch in plan(lengths=(8,), weights=(1.0,), shuffled=(True,), steps=8).batches() for place in batch
    ]
    first, second = places[:8], places[8:]
    assert {place.number for place in first} == {place.number for place in second} == set(range(8))
    assert [place.number for place in first] != [place.number for place in second]
    assert [place.passed for place in places] == [0] * 8 + [1] * 8


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_all_exhausted_sees_every_row_and_first_exhausted_none_twice(
    lengths: Any, batch: int, block: int, seed: int
) -> None:
    many = {"lengths": tuple(lengths), "weights": (1.0,) * len(lengths), "shuffled": (False,) * len(lengths)}
    every = [place for each in plan(**many, batch=batch, block=block, seed=seed).batches() for place in each]
    assert {(place.dataset, place.number) for place in every} == {
        (d, n) for d, k in enumerate(lengths) for n in range(k)
    }
    first = [
        place for each in plan(**many, batch=batch, block=block, seed=seed, stop="first").batches() for place in each
    ]
    assert len(first) == len(set(first))
    assert all(place.passed == 0 for place in first)


def test_counts_are_those_of_the_batches() -> None:
    for changed in ({}, {"steps": 3}, {"stop": "first"}, {"stop": "first", "steps": 2}, {"stop": "first", "steps": 99}):
        assert plan(**changed).count() == len(list(plan(**changed).batches())), changed


def test_devices_share_every_batch() -> None:
    whole = list(plan(steps=6).batches())
    shares = [list(Share(plan(steps=6), rank, 2)) for rank in (0, 1)]
    assert [[*a, *b] for a, b in zip(*shares, strict=True)] == whole
    assert len(Share(plan(steps=6))) == 6
    with pytest.raises(BtoksError, match="cannot be shared by 3 devices"):
        Share(plan(), 0, 3)


def test_what_comes_after_a_stop_is_what_would_have_come() -> None:
    assert list(islice(plan(steps=9).batches(), 5, None)) == list(plan(steps=9).batches())[5:]
    assert isinstance(next(plan().batches())[0], Place)
