"""Real vectors for the tests: handwritten digits, 64 wide, of length one, with a mean far from zero."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from btoks import methods
from btoks.methods.quantize import Quantizer

DIM = 64


@functools.cache
def digits() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Vectors to fit on (1200), to store (500) and to ask with (40)."""
    rows = load_digits().data.astype(np.float32)
    rows = rows[np.random.default_rng(5).permutation(len(rows))]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:1200], rows[1200:1700], rows[1700:1740]


@functools.cache
def fitted(spec: str) -> Quantizer:
    method: Quantizer = methods.create("quantize", spec).fit(digits()[0])
    return method


def recall(method: Quantizer, k: int = 10) -> float:
    """How many of the exact k nearest stored vectors the codes' k nearest are."""
    _, stored, queries = digits()
    return overlap(method.score(queries, method.encode(stored)), queries @ stored.T, k)


def overlap(scores: Any, exact: Any, k: int) -> float:
    found, true = (np.argsort(-each, axis=1, kind="stable")[:, :k] for each in (scores, exact))
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found, true, strict=True)]))


def error(method: Quantizer, stored: Any = None) -> float:
    """Mean squared distance of stored vectors from what their codes stand for."""
    stored = digits()[1] if stored is None else stored
    return float(((method.decode(method.encode(stored)) - stored) ** 2).sum(axis=1).mean())
