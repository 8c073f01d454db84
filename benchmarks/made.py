"""Made vectors, queries across a gap, and libraries of them: what the library's benchmarks share."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btoks.library import Library, background, store, upkeep

Floats = NDArray[np.float32]
K, QUERIES = 10, 200


def made(rows: int, dim: int, seed: int = 0) -> Floats:
    """Unit vectors around many centres, block by block, the later dimensions ever weaker."""
    rng = np.random.default_rng(seed)
    fall = (1 / np.sqrt(1 + np.arange(dim) / 16)).astype(np.float32)
    centres = np.random.default_rng(99).standard_normal((max(8, rows // 500), dim), np.float32) * fall
    out = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 65_536):
        block = out[start : start + 65_536]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= 0.7 * fall
        block += centres[rng.integers(0, len(centres), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def across(vectors_ND: Floats, count: int = QUERIES) -> Floats:
    """Queries near some of the vectors, all moved the same way: the gap between texts and pictures."""
    rng = np.random.default_rng(7)
    near = vectors_ND[rng.integers(0, len(vectors_ND), count)]
    gap = rng.standard_normal(vectors_ND.shape[1], np.float32) / vectors_ND.shape[1] ** 0.5
    moved = near + gap + 0.3 * rng.standard_normal(near.shape, np.float32) / vectors_ND.shape[1] ** 0.5
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def best(scores_N: Floats) -> list[int]:
    """The places of the k highest scores, the best first."""
    kept = np.argpartition(-scores_N, K - 1)[:K]
    return [int(place) for place in kept[np.lexsort((kept, -scores_N[kept]))]]


def numbered(rows: list[tuple[str, float]]) -> list[int]:
    """The places that ids name."""
    return [int(name) for name, _ in rows]


def built(folder: Path, vectors_ND: Floats) -> Library:
    """A library of vectors, its index built."""
    library = Library.create(folder, model=None)
    for start in range(0, len(vectors_ND), 50_000):
        piece = vectors_ND[start : start + 50_000]
        library.add_vectors([str(start + place) for place in range(len(piece))], piece)
    background.build(folder, store.EXACT_BELOW)
    while library.view.store.table is not None and upkeep.due(library.view.store.table, store.EXACT_BELOW):
        time.sleep(0.1)  # another process has begun before
    return library


def held(folder: Path) -> int:
    """Bytes of a folder whose files may go while they are counted."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(where, name).stat().st_size
    return total
