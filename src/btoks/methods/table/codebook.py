"""Product codebooks (DPQ, 1908.09756): a row is one word of each codebook, side by side.

On a frozen table the words that DPQ learns end to end are those of k-means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codebooks
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State


@method(
    title="Product codebooks",
    paper="1908.09756",
    stage="table",
    system="B2",
    no_identity="each run of dimensions is the nearest of a few words",
)
@dataclass(frozen=True)
class Codebook:
    """m codes a row of one byte, codebooks of up to 256 words, both as large as the budget allows."""

    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, table_VD: Any, budget: float) -> Self:
        """k-means in each run of dimensions."""
        rows_VD = _primitives.table(table_VD)
        parts, words = _sizes(self, len(rows_VD), rows_VD.shape[1], budget)
        books, codes = [], []
        for part, cut in enumerate(_codebooks.cuts(rows_VD.shape[1], parts)):
            run_VS = np.ascontiguousarray(rows_VD[:, cut])
            book = _codebooks.kmeans(run_VS, seed=self.seed + part, rounds=20, words=words)
            codes.append(_codebooks.nearest(run_VS, book))
            # Fewer different runs than words: the rest of the codebook stays zero, so that the size is the stated one.
            books.append(np.pad(book, ((0, words - len(book)), (0, 0))))
        state: State = {"codes": np.stack(codes, axis=1).astype(np.uint8), "words": np.concatenate(books, axis=1)}
        return replace(self, state=state | {"shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """The words side by side."""
        ids = _primitives.asked(self, ids_N)
        words_WD, codes_VJ = self.state["words"], self.state["codes"]
        rows_ND = np.empty((len(ids), words_WD.shape[1]), np.float32)
        for part, cut in enumerate(_codebooks.cuts(words_WD.shape[1], codes_VJ.shape[1])):
            rows_ND[:, cut] = words_WD[codes_VJ[ids, part], cut]
        return rows_ND

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """V·m + 4·W·D with m codes a row and W words a codebook."""
        parts, words = _sizes(self, rows, dim, budget)
        return rows * parts + 4 * words * dim

    nbytes = property(_primitives.nbytes)


def _sizes(method: object, rows: int, dim: int, budget: float) -> tuple[int, int]:
    """m and W: the most words that leave half of the budget or more to the codes, then as many codes as fit."""
    allowed = _primitives.allowance(budget, rows, dim)
    _primitives.refuse_below(rows + 8 * dim, method, budget, rows, dim)
    sizes = [2**bits for bits in range(8, 0, -1)]
    half = [words for words in sizes if 4 * words * dim <= allowed / 2 and rows + 4 * words * dim <= allowed]
    words = half[0] if half else 2
    return min(dim, (allowed - 4 * words * dim) // rows), words
