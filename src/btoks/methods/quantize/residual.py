"""Residual (additive) quantisation (Chen et al. 2010): a vector is the sum of one word of each codebook.

Each codebook is learnt on what the ones before left over; a beam of partial sums is kept while encoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codebooks, _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats


def _beam(X_ND: Tensor, books_JVD: Tensor, beam: int) -> Tensor:
    """The words (N, J) of the best of `beam` partial sums, all vectors of a block at once.

    Shape suffixes: L partial sums that are kept.
    """
    count, dim = X_ND.shape
    rest_NLD, words_NLJ = X_ND[:, None, :], torch.empty(count, 1, 0, dtype=torch.long)
    for book_VD in books_JVD:
        # |rest − word|², which also compares the partial sums with each other.
        gap_NLV = (rest_NLD**2).sum(dim=2, keepdim=True) - 2 * rest_NLD @ book_VD.T + (book_VD**2).sum(dim=1)
        best_NL = gap_NLV.flatten(1).topk(min(beam, gap_NLV[0].numel()), dim=1, largest=False).indices
        parent_NL, word_NL = best_NL // len(book_VD), best_NL % len(book_VD)
        rest_NLD = rest_NLD.gather(1, parent_NL[:, :, None].expand(-1, -1, dim)) - book_VD[word_NL]
        before_NLJ = words_NLJ.gather(1, parent_NL[:, :, None].expand(-1, -1, words_NLJ.shape[2]))
        words_NLJ = torch.cat([before_NLJ, word_NL[:, :, None]], dim=2)
    best_N = (rest_NLD**2).sum(dim=2).argmin(dim=1)
    return words_NLJ[torch.arange(count), best_N]


@method(
    title="Residual quantisation",
    paper="1509.05195",
    stage="quantize",
    no_identity="m words of 256 are summed: the error shrinks with each, on average by the variance they explain",
)
@dataclass(frozen=True)
class Residual:
    """`m` bytes, one a codebook as wide as the vectors."""

    m: int = 16
    beam: int = 4
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.m, "m")
        _primitives.check_count(self, self.beam, "beam")

    def fit(self, X_ND: Any) -> Self:
        """Learn one codebook after the other."""
        rest_ND = _codebooks.training_rows(_primitives.fitting(self, X_ND), self.seed)
        books = []
        for place in range(self.m):
            words_VD = _codebooks.kmeans(rest_ND, seed=self.seed + place, rounds=10)
            rest_ND = rest_ND - words_VD[_codebooks.nearest(rest_ND, words_VD)]
            books.append(words_VD)
        most = max(map(len, books))
        filled = [np.pad(book, ((0, most - len(book)), (0, 0)), mode="edge") for book in books]
        return replace(self, state={"codebooks": np.stack(filled)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The words whose sum is nearest, as far as the beam sees."""
        books = torch.from_numpy(_primitives.learnt(self, "codebooks"))
        rows_ND = _primitives.encoding(self, X_ND, books.shape[2])
        codes_NJ = np.empty((len(rows_ND), self.m), np.uint8)
        for block in _primitives.blocks(len(rows_ND), self.beam * max(books.shape[1:])):
            codes_NJ[block] = _beam(_kernels.tensor(rows_ND[block]), books, self.beam).numpy()
        return _codes.pack(codes_NJ, dim=books.shape[2])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The sums of the words."""
        books_JVD: Floats = _primitives.learnt(self, "codebooks")
        sums_ND = np.zeros((len(codes), codes.dim), np.float32)
        for words_VD, code_N in zip(books_JVD, _primitives.data(self, codes).T, strict=True):
            sums_ND += words_VD[code_N]
        return sums_ND

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a code in the queries' products with all words."""
        query = _kernels.tensor(_primitives.queries(query_MD, codes))
        books = torch.from_numpy(_primitives.learnt(self, "codebooks"))
        table_MJV = torch.einsum("md,jvd->mjv", query, books)
        codes_NJ: NDArray[np.uint8] = _primitives.data(self, codes)
        return _kernels.tables(table_MJV, codes_NJ)

    def bytes_per_vector(self, dim: int) -> int:
        """m."""
        return self.m

    state_nbytes = property(_primitives.state_nbytes)
