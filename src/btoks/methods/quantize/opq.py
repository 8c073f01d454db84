"""Optimised product quantisation (Ge et al. 2013): a rotation learnt together with the codebooks.

The start deals the principal directions out to the runs so that the products of their variances are alike; then
codebooks (k-means) and rotation (Procrustes) take turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codebooks, _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats

_ROTATION_ROWS = 16_384


def _dealt(X_ND: Floats, parts: int) -> Floats:
    """Principal directions (D, D), ordered so that each run of dimensions gets a like product of variances."""
    variance_D, directions_DD = _primitives.principal(X_ND)
    runs = _codebooks.cuts(X_ND.shape[1], parts)
    dealt: list[list[int]] = [[] for _ in runs]
    log_J = np.zeros(parts)
    # In units of a ten-thousandth of the largest no logarithm is negative, so that a full run is never the least.
    worth_D = np.log(np.maximum(variance_D / max(1e-4 * variance_D[0], np.finfo(np.float64).tiny), 1))
    for place, worth in enumerate(worth_D):
        full_J = np.array([len(have) == run.stop - run.start for have, run in zip(dealt, runs, strict=True)])
        run = int(np.argmin(np.where(full_J, np.inf, log_J)))
        dealt[run].append(place)
        log_J[run] += worth
    return directions_DD[:, [place for run_places in dealt for place in run_places]]


@method(
    title="Optimised product quantisation",
    paper="2401.08281",
    stage="quantize",
    no_identity="256 words a run of rotated dimensions: each run decodes to its nearest word",
)
@dataclass(frozen=True)
class Opq:
    """`m` bytes; the rotation is kept once. `turns` is how often codebooks and rotation take turns."""

    m: int = 16
    turns: int = 10
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.m, "m")
        _primitives.check_count(self, self.turns, "turns")

    def fit(self, X_ND: Any) -> Self:
        """Learn rotation and codebooks."""
        rows_ND = _codebooks.training_rows(_primitives.fitting(self, X_ND), self.seed)
        _primitives.counted(self, self.m, rows_ND.shape[1], "codebooks")
        few_ND = _primitives.sample(rows_ND, _ROTATION_ROWS, self.seed)
        rotation_DD, books_JVS = _dealt(few_ND, self.m), None
        for _ in range(self.turns):
            turned_ND = few_ND @ rotation_DD
            books_JVS, codes_NJ = _codebooks.product_fit(
                turned_ND, self.m, seed=self.seed, rounds=4, start_JVS=books_JVS
            )
            decoded_ND = _codebooks.product_decode(codes_NJ.astype(np.uint8), books_JVS, few_ND.shape[1])
            left_DD, _, right_DD = np.linalg.svd(few_ND.T.astype(np.float64) @ decoded_ND)
            rotation_DD = (left_DD @ right_DD).astype(np.float32)
        books_JVS, _ = _codebooks.product_fit(
            rows_ND @ rotation_DD, self.m, seed=self.seed, rounds=25, start_JVS=books_JVS
        )
        return replace(self, state={"codebooks": books_JVS, "rotation": rotation_DD})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The nearest word of each run of the rotated vectors."""
        books_JVS, rotation_DD = self._learnt()
        turned_ND = _primitives.encoding(self, X_ND, len(rotation_DD)) @ rotation_DD
        return _codes.pack(_codebooks.product_encode(turned_ND, books_JVS), dim=len(rotation_DD))

    def decode(self, codes: _codes.Codes) -> Floats:
        """The words side by side, rotated back."""
        books_JVS, rotation_DD = self._learnt()
        data_NB = _primitives.data(self, codes)
        decoded: Floats = _codebooks.product_decode(data_NB, books_JVS, codes.dim) @ rotation_DD.T
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a code in the rotated queries' products with all words."""
        books_JVS, rotation_DD = self._learnt()
        query = _primitives.queries(query_MD, codes) @ rotation_DD
        return _kernels.tables(_codebooks.product_tables(query, books_JVS), _primitives.data(self, codes))

    def bytes_per_vector(self, dim: int) -> int:
        """m."""
        return self.m

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "codebooks"), _primitives.learnt(self, "rotation")
