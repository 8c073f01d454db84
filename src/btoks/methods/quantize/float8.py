"""8-bit floats (2209.05433) with a scale; rounding is torch's, widening a shift into binary16 (torch's own is scalar).

    e4m3   seeeemmm → s0eeeemmm0000000 as binary16, times 2⁸   (both formats keep their subnormals this way)
    e5m2   seeeeemm → seeeeemm00000000 as binary16

The relative error of e4m3 is at most 2⁻⁴ and of e5m2 2⁻³ for normal numbers. Components of unit vectors mostly lie
below e4m3's smallest normal 2⁻⁶, so a plain cast breaks that bound: scale first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives, _scanning
from btoks.methods.quantize._primitives import Floats

_FORMATS = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
_SCALES = ("dimension", "vector", "global", "none")


@method(
    title="8-bit floats",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="4 (e4m3) or 3 (e5m2) of 24 significant bits are kept: relative error ≤ 2⁻⁴ or 2⁻³ of normal numbers",
)
@dataclass(frozen=True)
class Float8:
    """D bytes (4 more with a scale a vector). Scaled numbers beyond the format's largest are cut to it."""

    format: str = "e4m3"
    scale: str = "dimension"
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        way_out = f"choose one of {', '.join(_FORMATS)}"
        _primitives.refuse_unless(self.format in _FORMATS, self, f"format={self.format!r}", way_out)
        way_out = f"choose one of {', '.join(_SCALES)}"
        _primitives.refuse_unless(self.scale in _SCALES, self, f"scale={self.scale!r}", way_out)

    @property
    def _largest(self) -> float:
        return torch.finfo(_FORMATS[self.format]).max

    def fit(self, X_ND: Any) -> Self:
        """Learn the scale of each dimension, or of all."""
        if self.scale in ("vector", "none"):
            _primitives.matrix(X_ND)
            return self
        top_D = _primitives.largest(_primitives.fitting(self, X_ND))
        scale_D = np.full_like(top_D, top_D.max()) if self.scale == "global" else top_D
        return replace(self, state={"scale": scale_D / np.float32(self._largest)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Scale, cut to the range, round to nearest."""
        scale_D = self._scale()
        rows_ND = _primitives.encoding(self, X_ND, len(scale_D) or None)
        scale: Floats = scale_D if len(scale_D) else np.ones(rows_ND.shape[1], np.float32)
        if self.scale == "vector":
            top_N1 = np.abs(rows_ND).max(axis=1, keepdims=True)
            scale = np.maximum(top_N1 / np.float32(self._largest), np.finfo(np.float32).tiny)
        cut_ND = torch.from_numpy(rows_ND / scale).clamp(-self._largest, self._largest)
        stored_ND = cut_ND.to(_FORMATS[self.format]).view(torch.int8).numpy()
        return _codes.pack(stored_ND, *([scale] if self.scale == "vector" else []), dim=rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The rounded numbers, scaled back."""
        stored_ND, scale_N1 = self._parts(codes)
        scale: Floats = scale_N1 if self.scale == "vector" else self._factor(codes.dim)
        return (self._wide(stored_ND).numpy() * scale).astype(np.float32, copy=False)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """A look-up a number by faiss for few queries; else widened block by block, then multiplied."""
        stored_ND, scale_N1 = self._parts(codes)
        query = _primitives.queries(query_MD, codes) * (1 if self.scale == "vector" else self._factor(codes.dim))
        if _scanning.helps(query):
            words_V = self._wide(np.arange(256, dtype=np.uint8).view(np.int8)).nan_to_num(0, 0, 0)
            scores = _scanning.look_ups(torch.from_numpy(query)[:, :, None] * words_V, stored_ND.view(np.uint8))
        else:
            scores = _kernels.rows(query, stored_ND, self._wide)
        return scores * scale_N1.T if self.scale == "vector" else scores

    def bytes_per_vector(self, dim: int) -> int:
        """D, and 4 for a scale a vector."""
        return dim + 4 * (self.scale == "vector")

    state_nbytes = property(_primitives.state_nbytes)

    def _scale(self) -> Floats:
        return _primitives.learnt(self, "scale") if self.scale in ("dimension", "global") else np.empty(0, np.float32)

    def _factor(self, dim: int) -> Floats:
        scale_D = self._scale()
        return scale_D if len(scale_D) else np.ones(dim, np.float32)

    def _parts(self, codes: _codes.Codes) -> tuple[NDArray[np.int8], Floats]:
        data_NB = _primitives.data(self, codes)
        return data_NB[:, : codes.dim].view(np.int8), _codes.unpack(data_NB[:, codes.dim :], np.float32)

    def _wide(self, block: NDArray[np.int8]) -> Tensor:
        bits = _kernels.tensor(np.ascontiguousarray(block)).to(torch.int16)
        if self.format == "e5m2":
            return (bits << 8).view(torch.float16).float()
        bits <<= 7
        bits &= ~(1 << 14)
        return bits.view(torch.float16).float().mul_(256)
