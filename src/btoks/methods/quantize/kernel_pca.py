"""Kernel principal components (Schölkopf et al. 1998) with a Gaussian kernel on a sample of landmarks.

Decoding is kernel ridge regression from the short vectors back to the landmarks. It is not affine, so scoring decodes
block by block: use it to compare, not for speed. The kernel is scikit-learn's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _primitives, _reducing
from btoks.methods.quantize._primitives import Floats

_RIDGE = 1e-3


def _kernel(A_ND: Floats, B_ND: Floats, gamma: float) -> Floats:
    from sklearn.metrics.pairwise import rbf_kernel

    similar: Floats = rbf_kernel(A_ND.astype(np.float64), B_ND.astype(np.float64), gamma=gamma)
    return similar


def _rate(X_ND: Floats, gamma: float) -> float:
    total = float(X_ND.var(axis=0, dtype=np.float64).sum())
    return gamma / total if total > 0 else gamma


@method(
    title="Kernel principal components",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="a non-linear map: its decoder is a regression on the landmarks",
)
@dataclass(frozen=True)
class KernelPca:
    """The first components; `gamma` is the kernel's rate in units of one over the total variance."""

    components: float | int = 0.5
    gamma: float = 0.5
    landmarks: int = 1024
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")
        _primitives.check_count(self, self.landmarks, "landmarks")
        _primitives.refuse_unless(self.gamma > 0, self, f"gamma={self.gamma!r}", "give a number above 0")

    def fit(self, X_ND: Any) -> Self:
        """Learn the components on the landmarks, and the way back."""
        marks_LD = _primitives.sample(_primitives.fitting(self, X_ND), self.landmarks, self.seed)
        mean_D = marks_LD.mean(axis=0, dtype=np.float64).astype(np.float32)
        marks_LD = marks_LD - mean_D
        width, rate = self.width(marks_LD.shape[1]), _rate(marks_LD, self.gamma)
        kernel_LL = _kernel(marks_LD, marks_LD, rate)
        mean_L = kernel_LL.mean(axis=0)
        values_L, vectors_LL = np.linalg.eigh(kernel_LL - mean_L - mean_L[:, None] + mean_L.mean())
        values_K, vectors_LK = values_L[::-1][:width], vectors_LL[:, ::-1][:, :width]
        # Fewer landmarks than components, or directions without variance, give coordinates that are zero.
        real_K = values_K > 1e-9 * max(float(values_L.max()), 1e-9)
        map_LK = np.zeros((len(marks_LD), width))
        map_LK[:, : len(values_K)] = vectors_LK * np.where(real_K, 1 / np.sqrt(np.where(real_K, values_K, 1)), 0)
        short_LK = (kernel_LL - mean_L) @ map_LK
        back = _rate(short_LK, self.gamma)
        ridge_LL = _kernel(short_LK, short_LK, back) + _RIDGE * np.eye(len(marks_LD))
        state = {
            "mean": mean_D,
            "landmarks": marks_LD,
            "kernel_mean": mean_L,
            "map": map_LK,
            "short": short_LK,
            "dual": np.linalg.solve(ridge_LL, marks_LD),
            "rates": np.array([rate, back]),
        }
        return replace(
            self, state={key: array if key == "rates" else array.astype(np.float32) for key, array in state.items()}
        )

    def reduce(self, X_ND: Any) -> Floats:
        """Coordinates along the kernel's components."""
        marks_LD, mean_D = _primitives.learnt(self, "landmarks"), _primitives.learnt(self, "mean")
        rest_ND = _primitives.encoding(self, X_ND, len(mean_D)) - mean_D
        short_NK = np.empty((len(rest_ND), self.state["map"].shape[1]), np.float32)
        for block in _primitives.blocks(len(rest_ND), len(marks_LD), floats=1 << 22):
            kernel_nL = _kernel(rest_ND[block], marks_LD, self.state["rates"][0])
            short_NK[block] = (kernel_nL - self.state["kernel_mean"]) @ self.state["map"]
        return short_NK

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """The regression's answer."""
        dual_LD, lifted_ND = _primitives.learnt(self, "dual"), np.empty((len(Z_NK), dim), np.float32)
        for block in _primitives.blocks(len(Z_NK), len(dual_LD), floats=1 << 22):
            lifted_ND[block] = _kernel(Z_NK[block], self.state["short"], self.state["rates"][1]) @ dual_LD
        return lifted_ND + self.state["mean"]

    fold = _reducing.not_affine
    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)
