"""Multi-granular codebooks (MGQE, 2002.08530): rare ids choose among the first 16 words only, in half a byte.

ids        0 … H−1            H … V−1
codes      one of W words     one of the first 16 of them
bytes      m                  ⌈m/2⌉
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codebooks
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State

_FEW = 16


@method(
    title="Multi-granular codebooks",
    paper="2002.08530",
    stage="table",
    system="B2",
    no_identity="each run of dimensions is the nearest of a few words, of fewer for rare ids",
)
@dataclass(frozen=True)
class Mgqe:
    """m codes a row from shared codebooks; the `hot` share of ids uses all words."""

    hot: float = 0.25
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fine = isinstance(self.hot, int | float) and 0 <= self.hot <= 1
        _primitives.refuse_unless(fine, self, f"hot={self.hot!r}", "give a share from 0 to 1")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """The first words for all rows, the others for what these leave worst among the hot ones."""
        rows_VD = _primitives.table(table_VD)
        rows, dim = len(rows_VD), rows_VD.shape[1]
        parts, words = self._sizes(rows, dim, budget)
        hot = int(self.hot * rows)
        books, codes = [], []
        for part, cut in enumerate(_codebooks.cuts(dim, parts)):
            run_VS = np.ascontiguousarray(rows_VD[:, cut])
            few = _codebooks.kmeans(run_VS, seed=self.seed + part, rounds=10, words=_FEW)
            few_codes = _codebooks.nearest(run_VS, few)
            few = np.pad(few, ((0, _FEW - len(few)), (0, 0)), mode="edge")
            book, hot_codes = self._more(run_VS[:hot], few, words)
            books.append(book)
            codes.append(np.concatenate([hot_codes, few_codes[hot:]]))
        codes_VJ = np.stack(codes, axis=1).astype(np.uint8)
        state = {
            "hot": codes_VJ[:hot],
            "rare": _halved(codes_VJ[hot:]),
            "words": np.concatenate(books, axis=1),
            "parts": np.array([parts], np.int64),
            "shape": _primitives.shape(rows_VD),
        }
        return replace(self, state=state)

    def lookup(self, ids_N: Any) -> Floats:
        """The words side by side."""
        ids = _primitives.asked(self, ids_N)
        words_WD, hot_HJ, rare_RP = self.state["words"], self.state["hot"], self.state["rare"]
        parts = int(self.state["parts"][0])
        is_hot = ids < len(hot_HJ)
        codes_NJ = np.empty((len(ids), parts), np.uint8)
        codes_NJ[is_hot] = hot_HJ[ids[is_hot]]
        rare_NP = rare_RP[ids[~is_hot] - len(hot_HJ)]
        codes_NJ[~is_hot] = np.concatenate([rare_NP & 15, rare_NP >> 4], axis=1)[:, :parts]
        rows_ND = np.empty((len(ids), words_WD.shape[1]), np.float32)
        for part, cut in enumerate(_codebooks.cuts(words_WD.shape[1], parts)):
            rows_ND[:, cut] = words_WD[codes_NJ[:, part], cut]
        return rows_ND

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """H·m + (V − H)·⌈m/2⌉ + 4·W·D + 8."""
        return self._bytes(rows, dim, *self._sizes(rows, dim, budget))

    nbytes = property(_primitives.nbytes)

    def _bytes(self, rows: int, dim: int, parts: int, words: int) -> int:
        hot = int(self.hot * rows)
        return hot * parts + (rows - hot) * -(-parts // 2) + 4 * words * dim + 8

    def _sizes(self, rows: int, dim: int, budget: float) -> tuple[int, int]:
        """m and W: the most words that leave half of the budget or more to the codes, then as many codes as fit."""
        allowed = _primitives.allowance(budget, rows, dim)
        _primitives.refuse_below(self._bytes(rows, dim, 1, _FEW), self, budget, rows, dim)
        sizes = [words for words in (256, 128, 64, 32) if 4 * words * dim <= allowed / 2]
        words = next((words for words in sizes if self._bytes(rows, dim, 1, words) <= allowed), _FEW)
        return max(parts for parts in range(1, dim + 1) if self._bytes(rows, dim, parts, words) <= allowed), words

    def _more(self, run_HS: Floats, few: Floats, words: int) -> tuple[Floats, Any]:
        """The first words and further ones for these rows, and the rows' codes among all."""
        more = words - len(few)
        if not (len(run_HS) and more):
            return np.pad(few, ((0, more), (0, 0))), _codebooks.nearest(run_HS, few)
        gap_H = ((run_HS - few[_codebooks.nearest(run_HS, few)]) ** 2).sum(axis=1)
        worst = np.sort(np.argsort(-gap_H, kind="stable")[: max(len(run_HS) // 2, 1)])
        further = _codebooks.kmeans(run_HS[worst], seed=self.seed, rounds=10, words=more)
        book = np.concatenate([few, further])
        return np.pad(book, ((0, words - len(book)), (0, 0))), _codebooks.nearest(run_HS, book)


def _halved(codes_RJ: Any) -> Any:
    """Two codes a byte: the first half of them in the low nibbles."""
    half = -(-codes_RJ.shape[1] // 2)
    padded = np.pad(codes_RJ, ((0, 0), (0, 2 * half - codes_RJ.shape[1])))
    return padded[:, :half] | padded[:, half:] << 4
