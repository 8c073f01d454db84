"""Residual (additive) quantisation (Chen et al. 2010): a vector is the sum of one word of each codebook.

Each codebook is learnt on what the ones before left over; then they take turns at what all the others leave. A beam of
partial sums is kept while encoding, and then the words of a vector take turns in the same way.

Shape suffixes: N stored vectors, D width, J codebooks, V words of one, L partial sums that are kept.
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

_ROUNDS, _SWEEPS, _START = 3, 2, 4


def _beam(X_ND: Tensor, books_JVD: Tensor, beam: int) -> Tensor:
    """The words (N, J) of the best of `beam` partial sums, all vectors of a block at once."""
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


def _words(X_ND: Floats, books_JVD: Floats, beam: int) -> NDArray[np.intp]:
    """The words (N, J) of the vectors; with a beam, each in turn is then the nearest to what the others leave."""
    codes_NJ = np.empty((len(X_ND), len(books_JVD)), np.intp)
    for block in _primitives.blocks(len(X_ND), beam * max(books_JVD.shape[1:])):
        codes_NJ[block] = _beam(_kernels.tensor(X_ND[block]), torch.from_numpy(books_JVD), beam).numpy()
    if beam > 1:
        for block in _primitives.blocks(len(X_ND), 1, _codebooks.TRAINING_ROWS):
            _turns(X_ND[block], codes_NJ[block], books_JVD)
    return codes_NJ


def _turns(X_ND: Floats, codes_NJ: NDArray[np.intp], books_JVD: Floats, learning: bool = False) -> None:
    """Codebook by codebook, the nearest words to what the others leave; learning also moves the words, all in place.

    A moved word stays near its start, which counts as much as a few vectors: of few vectors it would learn their noise.
    """
    rest_ND, start_JVD = X_ND - _sums(codes_NJ, books_JVD), books_JVD.copy()
    for _ in range(_SWEEPS):
        for words_VD, start_VD, code_N in zip(books_JVD, start_JVD, codes_NJ.T, strict=True):
            rest_ND += words_VD[code_N]
            code_N[:] = _codebooks.nearest(rest_ND, words_VD)
            if learning:
                sums_VD, count_V = _codebooks.sums(rest_ND, code_N, len(words_VD))
                words_VD[:] = (sums_VD + _START * start_VD) / (count_V[:, None] + _START)
            rest_ND -= words_VD[code_N]


def _sums(codes_NJ: NDArray[Any], books_JVD: Floats) -> Floats:
    sums_ND = np.zeros((len(codes_NJ), books_JVD.shape[2]), np.float32)
    for words_VD, code_N in zip(books_JVD, codes_NJ.T, strict=True):
        sums_ND += words_VD[code_N]
    return sums_ND


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
        """Learn one codebook after the other, then all in turns."""
        rows_ND = _codebooks.training_rows(_primitives.fitting(self, X_ND), self.seed)
        rest_ND, books = rows_ND, []
        for place in range(self.m):
            words_VD = _codebooks.kmeans(rest_ND, seed=self.seed + place, rounds=10)
            rest_ND = rest_ND - words_VD[_codebooks.nearest(rest_ND, words_VD)]
            books.append(words_VD)
        most = max(map(len, books))
        books_JVD = np.stack([np.pad(book, ((0, most - len(book)), (0, 0)), mode="edge") for book in books])
        for _ in range(_ROUNDS if self.beam > 1 else 0):
            _turns(rows_ND, _words(rows_ND, books_JVD, self.beam), books_JVD, learning=True)
        return replace(self, state={"codebooks": books_JVD})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The words whose sum is nearest, as far as the beam sees."""
        books_JVD = _primitives.learnt(self, "codebooks")
        rows_ND = _primitives.encoding(self, X_ND, books_JVD.shape[2])
        return _codes.pack(_words(rows_ND, books_JVD, self.beam).astype(np.uint8), dim=books_JVD.shape[2])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The sums of the words."""
        return _sums(_primitives.data(self, codes), _primitives.learnt(self, "codebooks"))

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a code in the queries' products with all words."""
        query = _kernels.tensor(_primitives.queries(query_MD, codes))
        books = torch.from_numpy(_primitives.learnt(self, "codebooks"))
        table_MJV = (books @ query.T).permute(2, 0, 1)
        codes_NJ: NDArray[np.uint8] = _primitives.data(self, codes)
        return _kernels.tables(table_MJV, codes_NJ)

    def bytes_per_vector(self, dim: int) -> int:
        """m."""
        return self.m

    state_nbytes = property(_primitives.state_nbytes)
