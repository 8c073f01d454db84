"""Product quantisation (Jégou et al. 2011): runs of dimensions, a codebook of 256 words for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codebooks, _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats


@method(
    title="Product quantisation",
    paper="2401.08281",
    stage="quantize",
    no_identity="256 words a run of dimensions: each run decodes to its nearest word",
)
@dataclass(frozen=True)
class Pq:
    """`m` bytes, one a run of dimensions."""

    m: int = 16
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.m, "m")

    def fit(self, X_ND: Any) -> Self:
        """Learn the codebooks by k-means."""
        rows_ND = _codebooks.training_rows(_primitives.fitting(self, X_ND), self.seed)
        _primitives.counted(self, self.m, rows_ND.shape[1], "codebooks")
        books_JVS, _ = _codebooks.product_fit(rows_ND, self.m, seed=self.seed, rounds=25)
        return replace(self, state={"codebooks": books_JVS, "width": np.array([rows_ND.shape[1]])})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The nearest word of each run."""
        books_JVS, dim = self._learnt()
        return _codes.pack(_codebooks.product_encode(_primitives.encoding(self, X_ND, dim), books_JVS), dim=dim)

    def decode(self, codes: _codes.Codes) -> Floats:
        """The words side by side."""
        books_JVS, dim = self._learnt()
        return _codebooks.product_decode(_primitives.data(self, codes), books_JVS, dim)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a code in the queries' products with all words."""
        books_JVS, _ = self._learnt()
        query = _primitives.queries(query_MD, codes)
        return _kernels.tables(_codebooks.product_tables(query, books_JVS), _primitives.data(self, codes))

    def bytes_per_vector(self, dim: int) -> int:
        """m."""
        return self.m

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, int]:
        return _primitives.learnt(self, "codebooks"), int(_primitives.learnt(self, "width")[0])
