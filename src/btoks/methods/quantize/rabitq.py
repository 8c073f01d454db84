"""RaBitQ (2405.12497): sign codes after a random rotation, with an unbiased estimator and its error bound.

    r = x − mean,  o = P r / |r|,  bits s = sign(o),  t = ⟨s/√D, o⟩
    ⟨q, x⟩ ≈ ⟨q, mean⟩ + f · ⟨s, P q⟩                      f = |r| / (√D · t)
    |error| ≤ ε · e · |q| / √(D − 1)                        e = |r| · √(1 − t²) / t, with probability 1 − 2·exp(−c·ε²)

f and e are kept as floats beside the bits. The expectation is over the random rotation P.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

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
        """Rotated signs and the two factors."""
        mean_D, rotation_DD = self._learnt()
        dim = len(mean_D)
        centred_ND: Floats = _primitives.encoding(self, X_ND, dim) - mean_D
        rest_ND: Floats = centred_ND @ rotation_DD
        norm_N = np.linalg.norm(rest_ND.astype(np.float64), axis=1)
        ones_N = np.abs(rest_ND).sum(axis=1, dtype=np.float64)
        t_N = np.divide(ones_N, norm_N * np.sqrt(dim), out=np.ones(len(rest_ND)), where=norm_N > 0).clip(max=1)
        factors_N2 = np.stack([norm_N / (t_N * np.sqrt(dim)), norm_N * np.sqrt(1 - t_N**2) / t_N], axis=1)
        return _codes.pack(np.packbits(rest_ND > 0, axis=1), factors_N2.astype(np.float32), dim=dim)

    def decode(self, codes: _codes.Codes) -> Floats:
        """The vectors whose products with queries are the estimates."""
        mean_D, rotation_DD = self._learnt()
        bits_NB, factors_N2 = self._parts(codes)
        signs_ND = 2 * _kernels.unpacked(bits_NB, codes.dim).astype(np.float32) - 1
        scaled_ND: Floats = signs_ND * factors_N2[:, :1]
        decoded: Floats = mean_D + scaled_ND @ rotation_DD.T
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """The estimates: sums of rotated query components over the set bits, times the factor."""
        mean_D, rotation_DD = self._learnt()
        bits_NB, factors_N2 = self._parts(codes)
        query = _primitives.queries(query_MD, codes)
        rotated = query @ rotation_DD
        signed_MN = 2 * _kernels.bits(rotated, bits_NB) - rotated.sum(axis=1, keepdims=True)
        scores: Floats = signed_MN * factors_N2[:, 0] + (query @ mean_D)[:, None]
        return scores

    def error_bound(self, query_MD: Any, codes: _codes.Codes, epsilon: float = 1.9) -> Floats:
        """How far each score may be off (M, N); at ε = 1.9, the paper's choice, nearly all are within."""
        _, factors_N2 = self._parts(codes)
        norm_M1 = np.linalg.norm(_primitives.queries(query_MD, codes), axis=1, keepdims=True)
        bound: Floats = np.float32(epsilon / max(codes.dim - 1, 1) ** 0.5) * norm_M1 * factors_N2[:, 1]
        return bound

    def bytes_per_vector(self, dim: int) -> int:
        """⌈D/8⌉ + 8."""
        return -(-dim // 8) + 8

    state_nbytes = property(_primitives.state_nbytes)

    def _learnt(self) -> tuple[Floats, Floats]:
        return _primitives.learnt(self, "mean"), _primitives.learnt(self, "rotation")

    def _parts(self, codes: _codes.Codes) -> tuple[Any, Floats]:
        data_NB = _primitives.data(self, codes)
        return data_NB[:, :-8], _codes.unpack(data_NB[:, -8:], np.float32)
