"""UMAP (1802.03426), the measured negative: a map for pictures keeps neighbourhoods, not inner products.

`pip install 'btoks[umap]'` for fitting. New vectors, and the way back, are means of the nearest sample points weighted
by inverse distance, which is where umap-learn's own `transform` starts from; so the state is two arrays and no pickle.
Scoring decodes block by block.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.quantize import _kernels, _primitives, _reducing
from btoks.methods.quantize._primitives import Floats


def _blend(X_ND: Floats, near_LD: Floats, far_LK: Floats, neighbors: int) -> Floats:
    """The mean of what belongs to the nearest points, weighted by inverse distance."""
    near, far, out_NK = (
        torch.from_numpy(near_LD),
        torch.from_numpy(far_LK),
        np.empty((len(X_ND), far_LK.shape[1]), np.float32),
    )
    for block in _primitives.blocks(len(X_ND), len(near_LD), floats=1 << 22):
        rows = _kernels.tensor(np.ascontiguousarray(X_ND[block]))
        gap, found = torch.cdist(rows.double(), near.double()).topk(min(neighbors, len(near_LD)), dim=1, largest=False)
        # A point of the sample itself takes all the weight.
        weight = 1 / gap.clamp(min=1e-9 * float(gap.max()) + 1e-30)
        blend = (weight / weight.sum(dim=1, keepdim=True))[:, :, None] * far[found]
        out_NK[block] = blend.sum(dim=1).numpy()
    return out_NK


def _embedded(X_ND: Floats, width: int, neighbors: int, seed: int) -> Floats:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            umap: Any = importlib.import_module("umap")
            # The spectral start needs more points than dimensions, and says so late.
            start = "spectral" if width + 1 < len(X_ND) // 2 else "random"
            fitted = umap.UMAP(n_components=width, n_neighbors=neighbors, init=start, random_state=seed).fit(X_ND)
    except ImportError as error:
        raise BtoksError("quantize method 'umap'", "umap-learn is missing", "pip install 'btoks[umap]'") from error
    return np.asarray(fitted.embedding_, np.float32)


@method(
    title="UMAP",
    paper="1802.03426",
    stage="quantize",
    system="B1",
    no_identity="a non-linear map that does not keep distances",
)
@dataclass(frozen=True)
class Umap:
    """K coordinates of UMAP's map of a `sample` of the vectors."""

    components: float | int = 0.5
    neighbors: int = 15
    sample: int = 4096
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")
        fine = isinstance(self.neighbors, int) and self.neighbors >= 2
        _primitives.refuse_unless(fine, self, f"neighbors={self.neighbors!r}", "give a whole number ≥ 2")
        _primitives.check_count(self, self.sample, "sample")

    def fit(self, X_ND: Any) -> Self:
        """Learn the map of a sample; needs more vectors than `neighbors`."""
        rows_ND = _primitives.fitting(self, X_ND, self.neighbors + 1)
        drawn_LD = _primitives.sample(rows_ND, self.sample, self.seed)
        map_LK = _embedded(drawn_LD, self.width(rows_ND.shape[1]), self.neighbors, self.seed)
        # Points without neighbours (duplicates of one, say) are left out of the map as NaN.
        placed = np.isfinite(map_LK).all(axis=1)
        if not placed.any():
            raise BtoksError(_primitives.name(self), "no vector got a place on the map", "give vectors that differ")
        return replace(self, state={"sample": drawn_LD[placed], "map": map_LK[placed]})

    def reduce(self, X_ND: Any) -> Floats:
        """Places on the map."""
        drawn_LD = _primitives.learnt(self, "sample")
        rows_ND = _primitives.encoding(self, X_ND, drawn_LD.shape[1])
        return _blend(rows_ND, drawn_LD, self.state["map"], self.neighbors)

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """The sample's vectors near these places."""
        return _blend(Z_NK, _primitives.learnt(self, "map"), self.state["sample"], self.neighbors)

    fold = _reducing.not_affine
    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)
