"""RaBitQ (2405.12497): sign codes after a random rotation, with an unbiased estimator and its error bound.

    r = x − m (the mean),  o = P r / |r|,  bits s = sign(o),  t = ⟨s/√D, o⟩,  r̂ = f · Pᵀ s  with f = |r| / (√D · t)
    ⟨q, x⟩ ≈ ⟨q, m + r̂⟩ + β · ⟨q, v⟩        β = ⟨m, r − r̂⟩ / |m|²: what the bits lose along the mean
    |error| ≤ ε · e · |q| / √(D − 1)         e = |r| · √(1 − t²) / t, with probability 1 − 2·exp(−c·ε²)

Beside the bits are kept f and β as floats of three bytes and e as one of two. The expectation is over the rotations P;
that of β is zero. The paper centres the query, which is ⟨q, v⟩ = |m|² for every q; here it is as near to that as a
product can be for queries like the vectors (ridge regression), so that scores stay products with decoded vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats

_SHARE_ROWS, _CACHED = 4_096, 1 << 16


@method(
    title="RaBitQ",
    paper="2405.12497",
    stage="quantize",
    no_identity="one bit a dimension: the estimator is unbiased, its error has the bound of `error_bound`",
)
@dataclass(frozen=True)
class Rabitq:
    """⌈D/8⌉ + 8 bytes; mean and rotation are kept once."""

    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def fit(self, X_ND: Any) -> Self:
        """Learn the mean and the queries' share of it; draw the rotation."""
        rows_ND = _primitives.fitting(self, X_ND)
        mean_D = _primitives.mean(rows_ND)
        share_D = _share(_primitives.sample(rows_ND, _SHARE_ROWS, self.seed), mean_D)
        rotation_DD = _primitives.rotation(len(mean_D), self.seed)
        return replace(self, state={"mean": mean_D, "rotation": rotation_DD, "share": share_D})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Rotated signs and the three factors."""
        mean_D, rotation_DD = self._learnt()
        rows_ND = _primitives.encoding(self, X_ND, len(mean_D))
        turned_D = mean_D.astype(np.float64) @ rotation_DD
        length = float(turned_D @ turned_D) or 1
        bits_NB = np.empty((len(rows_ND), -(-len(mean_D) // 8)), np.uint8)
        factors_3N = np.empty((3, len(rows_ND)))
        for block in _primitives.blocks(len(rows_ND), len(mean_D), _CACHED):
            centred_nD: Floats = rows_ND[block] - mean_D
            rest_nD: Floats = centred_nD @ rotation_DD
            signs_nD = rest_nD > 0
            bits_NB[block] = np.packbits(signs_nD, axis=1)
            factor_n, spread_n = _factors(rest_nD)
            signs_n = 2 * (signs_nD.astype(np.float32) @ turned_D.astype(np.float32)) - turned_D.sum()
            along_n = (rest_nD @ turned_D.astype(np.float32) - factor_n * signs_n) / length
            factors_3N[:, block] = factor_n, along_n, spread_n
        shortened = (_shortened(values_N, size) for values_N, size in zip(factors_3N, (3, 3, 2), strict=True))
        return _codes.pack(bits_NB, *shortened, dim=len(mean_D))

    def decode(self, codes: _codes.Codes) -> Floats:
        """The vectors whose products with queries are the estimates."""
        mean_D, rotation_DD = self._learnt()
        data_NB = _primitives.data(self, codes)
        factor_N, along_N = _lengthened(data_NB, 5, 3), _lengthened(data_NB, 2, 3)
        signs_ND = 2 * _kernels.unpacked(data_NB[:, :-8], codes.dim).astype(np.float32) - 1
        scaled_ND: Floats = signs_ND * factor_N[:, None]
        decoded: Floats = mean_D + along_N[:, None] * self._share() + scaled_ND @ rotation_DD.T
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """The estimates: sums of rotated query components with the bits as signs, times the factor."""
        mean_D, rotation_DD = self._learnt()
        data_NB = _primitives.data(self, codes)
        query = _primitives.queries(query_MD, codes)
        beside_2M = torch.from_numpy(np.stack([query @ mean_D, query @ self._share()]))

        def finish(scores_nM: Tensor, rows: slice) -> None:
            factor_n, along_n = (torch.from_numpy(_lengthened(data_NB[rows], after, 3)) for after in (5, 2))
            beside_n2 = torch.stack([torch.ones_like(along_n), along_n], dim=1)
            scores_nM.mul_(factor_n[:, None]).addmm_(beside_n2, beside_2M)

        return _kernels.signs(query @ rotation_DD, data_NB[:, :-8], finish)

    def error_bound(self, query_MD: Any, codes: _codes.Codes, epsilon: float = 1.9) -> Floats:
        """How far each score may be off (M, N); at ε = 1.9, the paper's choice, nearly all are within."""
        spread_N = _lengthened(_primitives.data(self, codes), 0, 2)
        norm_M1 = np.linalg.norm(_primitives.queries(query_MD, codes), axis=1, keepdims=True)
        bound: Floats = np.float32(epsilon / max(codes.dim - 1, 1) ** 0.5) * norm_M1 * spread_N
        return bound

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/8⌉ + 8."""
        return -(-dim // 8) + 8

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "rotation")

    def _share(self) -> Floats:
        """|m|² · v. Files without it are of methods that left to the query what lies along the mean: v = m / |m|²."""
        return self.state.get("share", _primitives.learnt(self, "mean"))


def _share(X_ND: Floats, mean_D: Floats) -> Floats:
    """|m|² · v, where ⟨x, v⟩ is nearest to 1 on the whole: ridge regression, weighted by the mean variance."""
    size = float(np.abs(X_ND).max()) or 1.0
    centred_ND, scaled_D = (X_ND - mean_D) / np.float32(size), mean_D.astype(np.float64) / size
    square = float(scaled_D @ scaled_D)
    ridged_DD = (centred_ND.T @ centred_ND).astype(np.float64) / len(X_ND)
    diagonal = np.einsum("dd->d", ridged_DD)
    diagonal += diagonal.mean() + 1e-6 * square or 1.0
    solved_D = np.linalg.solve(ridged_DD, scaled_D)
    return (size * square / (1 + scaled_D @ solved_D) * solved_D).astype(np.float32)


def _factors(rest_nD: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f and e."""
    size_nD = np.abs(rest_nD, dtype=np.float64)
    norm_n, root = np.sqrt(np.einsum("nd,nd->n", size_nD, size_nD)), rest_nD.shape[1] ** 0.5
    t_n = np.divide(size_nD.sum(axis=1), norm_n * root, out=np.ones(len(rest_nD)), where=norm_n > 0).clip(max=1)
    return norm_n / (t_n * root), norm_n * np.sqrt(1 - t_n**2) / t_n


def _shortened(values_N: Any, size: int) -> NDArray[np.uint8]:
    """The first `size` of a float32's four bytes, rounded."""
    bits_N = np.asarray(values_N, np.float32).view(np.uint32) + np.uint32(1 << (8 * (4 - size) - 1))
    return bits_N.astype("<u4").view(np.uint8).reshape(-1, 4)[:, 4 - size :]


def _lengthened(data_NB: NDArray[np.uint8], after: int, size: int) -> Floats:
    """Floats of `size` bytes, `after` bytes before the end; the bytes before these are there in every row."""
    end = data_NB.shape[1] - after
    words_N = data_NB[:, end - 4 : end].view("<u4")[:, 0] & np.uint32(2**32 - 2 ** (8 * (4 - size)))
    return words_N.view(np.float32)
