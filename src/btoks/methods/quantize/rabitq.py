"""RaBitQ (2405.12497): sign codes after a random rotation, with an unbiased estimator and its error bound.

    r = x − m (the mean),  o = P r / |r|,  bits s = sign(o),  t = ⟨s/√D, o⟩,  r̂ = f · Pᵀ s  with f = |r| / (√D · t)
    ⟨q, x⟩ ≈ ⟨q, m + r̂⟩ + β · ⟨q, m⟩        β = ⟨m, r − r̂⟩ / |m|²: what lies along the mean is kept exactly
    |error| ≤ ε · e · |q| / √(D − 1)         e = |r| · √(1 − t²) / t, with probability 1 − 2·exp(−c·ε²)

Beside the bits are kept f and β as floats of three bytes and e as one of two. The expectation is over the rotations P;
that of β is zero. The paper centres the query too, which keeps the same component exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats


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
        """Learn the mean; draw the rotation."""
        rows_ND = _primitives.fitting(self, X_ND)
        mean_D = rows_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        return replace(self, state={"mean": mean_D, "rotation": _primitives.rotation(len(mean_D), self.seed)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Rotated signs and the three factors."""
        mean_D, rotation_DD = self._learnt()
        dim = len(mean_D)
        centred_ND: Floats = _primitives.encoding(self, X_ND, dim) - mean_D
        rest_ND: Floats = centred_ND @ rotation_DD
        norm_N = np.linalg.norm(rest_ND.astype(np.float64), axis=1)
        ones_N = np.abs(rest_ND).sum(axis=1, dtype=np.float64)
        t_N = np.divide(ones_N, norm_N * np.sqrt(dim), out=np.ones(len(rest_ND)), where=norm_N > 0).clip(max=1)
        factor_N = norm_N / (t_N * np.sqrt(dim))
        spread_N = norm_N * np.sqrt(1 - t_N**2) / t_N
        turned_D = mean_D.astype(np.float64) @ rotation_DD
        length = float(turned_D @ turned_D)
        along_N = (rest_ND - np.where(rest_ND > 0, 1, -1) * factor_N[:, None]) @ turned_D / (length or 1)
        factors = _shortened(factor_N, 3), _shortened(along_N, 3), _shortened(spread_N, 2)
        return _codes.pack(np.packbits(rest_ND > 0, axis=1), *factors, dim=dim)

    def decode(self, codes: _codes.Codes) -> Floats:
        """The vectors whose products with queries are the estimates."""
        mean_D, rotation_DD = self._learnt()
        bits_NB, factor_N, along_N, _ = self._parts(codes)
        signs_ND = 2 * _kernels.unpacked(bits_NB, codes.dim).astype(np.float32) - 1
        scaled_ND: Floats = signs_ND * factor_N[:, None]
        decoded: Floats = (1 + along_N)[:, None] * mean_D + scaled_ND @ rotation_DD.T
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """The estimates: sums of rotated query components over the set bits, times the factor."""
        mean_D, rotation_DD = self._learnt()
        bits_NB, factor_N, along_N, _ = self._parts(codes)
        query = _primitives.queries(query_MD, codes)
        rotated = query @ rotation_DD
        sums_MN = torch.from_numpy(_kernels.bits(2 * rotated, bits_NB))
        sums_MN.sub_(torch.from_numpy(rotated.sum(axis=1, keepdims=True))).mul_(torch.from_numpy(factor_N))
        sums_MN.addr_(torch.from_numpy(query @ mean_D), torch.from_numpy(1 + along_N))
        scores: Floats = sums_MN.numpy()
        return scores

    def error_bound(self, query_MD: Any, codes: _codes.Codes, epsilon: float = 1.9) -> Floats:
        """How far each score may be off (M, N); at ε = 1.9, the paper's choice, nearly all are within."""
        *_, spread_N = self._parts(codes)
        norm_M1 = np.linalg.norm(_primitives.queries(query_MD, codes), axis=1, keepdims=True)
        bound: Floats = np.float32(epsilon / max(codes.dim - 1, 1) ** 0.5) * norm_M1 * spread_N
        return bound

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/8⌉ + 8."""
        return -(-dim // 8) + 8

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "rotation")

    def _parts(self, codes: _codes.Codes) -> tuple[NDArray[np.uint8], Floats, Floats, Floats]:
        data_NB = _primitives.data(self, codes)
        ends = (data_NB.shape[1] - after for after in (5, 2, 0))
        factor_N, along_N, spread_N = (
            _lengthened(data_NB, end, size) for end, size in zip(ends, (3, 3, 2), strict=True)
        )
        return data_NB[:, :-8], factor_N, along_N, spread_N


def _shortened(values_N: Any, size: int) -> NDArray[np.uint8]:
    """The first `size` of a float32's four bytes, rounded."""
    bits_N = np.asarray(values_N, np.float32).view(np.uint32) + np.uint32(1 << (8 * (4 - size) - 1))
    return bits_N.astype("<u4").view(np.uint8).reshape(-1, 4)[:, 4 - size :]


def _lengthened(data_NB: NDArray[np.uint8], end: int, size: int) -> Floats:
    """Floats from the `size` bytes before `end`: the bytes before these are there in every row, and are blanked."""
    kept = np.uint32(2**32 - 2 ** (8 * (4 - size)))
    words_N = np.ascontiguousarray(data_NB[:, end - 4 : end]).view("<u4")[:, 0] & kept
    return words_N.view("<f4").astype(np.float32)
