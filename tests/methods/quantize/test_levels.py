"""Levels: the range they cover and the nearest of them, against numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from btoks.methods.quantize import _levels


def drawn(rows: int, dim: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rows).standard_normal((rows, dim)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 3000])
@pytest.mark.parametrize("dim", [1, 64, 3000])
def test_ranges_are_those_of_numpy(rows: int, dim: int) -> None:
    few = drawn(rows, dim) if rows * dim < 10**6 else drawn(rows, 64)
    for percentile in (100.0, 99.5, 50.0):
        tail = (100 - percentile) / 2
        low, high = np.percentile(few, (tail, 100 - tail), axis=0)
        middle, half = _levels.calibrated(few, percentile)
        assert np.allclose(middle, (low + high) / 2, atol=1e-5)
        assert np.allclose(half, (high - low) / 2 if rows > 1 else 1, atol=1e-5)


def test_where_nearly_all_values_are_alike_the_outermost_say_the_range() -> None:
    rows = np.zeros((1000, 2), np.float32)
    rows[7] = 4
    middle, half = _levels.calibrated(rows, 99.5)
    assert np.array_equal(middle, [2, 2])
    assert np.array_equal(half, [2, 2])


def test_the_nearest_level_of_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, zero, step = drawn(500, 7), drawn(1, 7)[0], np.arange(1, 8, dtype=np.float32) / 20
    expected = np.clip(np.rint((rows - zero) / step), -9, 11)
    assert np.array_equal(_levels.nearest(rows, zero, step, -9, 11), expected)
    monkeypatch.setattr(_levels, "_CACHED", 20)
    assert np.array_equal(_levels.nearest(rows, zero, step, -9, 11), expected)
    assert _levels.nearest(rows[:0], zero, step, -9, 11).shape == (0, 7)
