"""Evenly spaced levels: the range that they cover in each dimension, and the nearest one of each number.

Shape suffixes: N stored vectors, D width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from btoks.methods.quantize import _primitives
from btoks.methods.quantize._primitives import Floats

_CACHED, _WIDE = 1 << 16, 1 << 11


def calibrated(X_ND: Floats, percentile: float) -> tuple[Floats, Floats]:
    """Middle and half the length (D,) of the range that holds this percentage of a dimension's values.

    >>> calibrated(np.array([[-1.0], [3.0]], np.float32), 100.0)
    (array([1.], dtype=float32), array([2.], dtype=float32))
    """
    few_ND, tail = _primitives.sample(X_ND, _primitives.CALIBRATION_ROWS), (100 - percentile) / 200
    outer_2D = _outermost(few_ND)
    ends_2D = _quantiles(few_ND, tail) if tail else outer_2D
    # Where nearly all values are one and the same, only the outermost say anything.
    ends_2D = np.where(ends_2D[1] <= ends_2D[0], outer_2D, ends_2D).astype(np.float64)
    half_D = (ends_2D[1] - ends_2D[0]) / 2
    half_D = np.where(half_D > np.finfo(np.float32).tiny * 512, half_D, 1.0)
    return ends_2D.mean(axis=0).astype(np.float32), half_D.astype(np.float32)


def _outermost(X_ND: Floats) -> Floats:
    """The least and the largest value of each dimension."""
    # Several rows side by side keep numpy's inner loop long; what is left over are fewer rows than that.
    beside = max(1, _WIDE // X_ND.shape[1])
    whole = len(X_ND) - len(X_ND) % beside
    parts = X_ND[:whole].reshape(-1, beside * X_ND.shape[1]), X_ND[whole:]
    low_ND, high_ND = (
        np.concatenate([end(part, axis=0).reshape(-1, X_ND.shape[1]) for part in parts if len(part)])
        for end in (np.min, np.max)
    )
    return np.stack([low_ND.min(axis=0), high_ND.max(axis=0)])


def _quantiles(X_ND: Floats, tail: float) -> Floats:
    """The values that this share of each dimension lies below and above, between two rows by their distance.

    Sorting the dimensions whole, one after the other in memory, is faster than numpy's quantiles.
    """
    sorted_DN = np.empty(X_ND.shape[::-1], np.float32)
    for block in _primitives.blocks(len(X_ND), X_ND.shape[1], _CACHED):
        sorted_DN[:, block] = X_ND[block].T
    sorted_DN.sort(axis=1)
    place = tail * (len(X_ND) - 1)
    low, part = int(place), np.float32(place % 1)
    near, beyond = [low, -1 - low], [min(low + 1, len(X_ND) - 1), max(-2 - low, -len(X_ND))]
    ends_D2: Floats = sorted_DN[:, near] + part * (sorted_DN[:, beyond] - sorted_DN[:, near])
    return ends_D2.T


def nearest(X_ND: Floats, zero_D: Floats, step_D: Floats, low: int, high: int) -> NDArray[np.int8]:
    """Which of the levels from `low` to `high`, a step apart, is nearest; the even one of two."""
    levels_ND = np.empty(X_ND.shape, np.int8)
    cached_nD = np.empty((max(1, _CACHED // X_ND.shape[1]), X_ND.shape[1]), np.float32)
    for block in _primitives.blocks(len(X_ND), X_ND.shape[1], _CACHED):
        scaled_nD = np.subtract(X_ND[block], zero_D, out=cached_nD[: block.stop - block.start])
        np.rint(np.divide(scaled_nD, step_D, out=scaled_nD), out=scaled_nD)
        levels_ND[block] = np.clip(scaled_nD, low, high, out=scaled_nD)
    return levels_ND


def check_percentile(method: object, percentile: object) -> None:
    """Refuse anything but a number in (0, 100]."""
    fine = isinstance(percentile, int | float) and 0 < percentile <= 100
    _primitives.refuse_unless(fine, method, f"percentile={percentile!r}", "give a number above 0 and at most 100")
