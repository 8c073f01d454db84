"""A number format whose decoded vectors get their lengths back: one byte a vector for the ratio |x| / |decoded x|.

Coarse codes lose length unevenly, and a vector decoded too short or too long is ranked wrongly against all queries. On
vectors of one length this byte buys more recall than any other byte (see the benchmark `quantize.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np

from btoks.methods import create, method
from btoks.methods.quantize import _codes, _primitives
from btoks.methods.quantize._primitives import Floats, Quantizer, Reducer, State

_STEPS, _SLACK = 255, 0.25


@method(
    title="Number format with lengths restored",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="the ratio of lengths is kept to 255th parts of its range on the fitted vectors",
)
@dataclass(frozen=True)
class Rescaled:
    """The bytes of `format` (a format by its short string, with one setting at most) and 1."""

    format: str = "binary"
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fine = isinstance(self.format, str) and not {",", "+"} & set(self.format)
        inner = create("quantize", self.format) if fine else None
        way_out = "give a number format, such as rescaled:pq:8, and put a reducer before it with +"
        fine = isinstance(inner, Quantizer) and not isinstance(inner, Reducer | Rescaled)
        _primitives.refuse_unless(fine, self, f"format={self.format!r}", way_out)

    def fit(self, X_ND: Any) -> Self:
        """Fit the format, then the range of the ratios."""
        rows_ND = _primitives.fitting(self, X_ND)
        inner = self._format().fit(rows_ND)
        few_ND = _primitives.sample(rows_ND, _primitives.CALIBRATION_ROWS)
        ratio_N = _ratios(few_ND, inner.decode(inner.encode(few_ND)))
        low, high = np.quantile(ratio_N, (0.001, 0.999))
        # Vectors that the format was not fitted on decode worse, so their ratios lie in a wider range.
        low, high = low - _SLACK * (high - low), high + _SLACK * (high - low)
        learnt = {f"format.{key}": array for key, array in inner.state.items()}
        return replace(self, state=learnt | {"range": np.array([low, high - low], np.float32)})

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The format's codes, then the ratio's place in its range."""
        rows_ND = _primitives.matrix(X_ND)
        low, width = _primitives.learnt(self, "range")
        inner = self._format()
        codes = inner.encode(rows_ND)
        place_N = (_ratios(rows_ND, inner.decode(codes)) - low) / (width if width > 0 else 1) * _STEPS
        ratio_N1 = np.rint(place_N.clip(0, _STEPS)).astype(np.uint8)[:, None]
        return _codes.pack(codes.data_NB, ratio_N1, dim=rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """Decoded, then rescaled."""
        inner, ratio_N = self._parts(codes)
        decoded: Floats = self._format().decode(inner) * ratio_N[:, None]
        return decoded

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """The format's scores, rescaled."""
        inner, ratio_N = self._parts(codes)
        scores: Floats = self._format().score(query_MD, inner) * ratio_N
        return scores

    def bytes_per_vector(self, dim: int) -> int:
        """The format's, and 1."""
        return self._format().bytes_per_vector(dim) + 1

    state_nbytes = property(_primitives.state_nbytes)

    def _format(self) -> Quantizer:
        return cast(
            "Quantizer", replace(create("quantize", self.format), state=_primitives.within(self.state, "format."))
        )

    def _parts(self, codes: _codes.Codes) -> tuple[_codes.Codes, Floats]:
        data_NB = _primitives.data(self, codes)
        low, width = _primitives.learnt(self, "range")
        ratio_N: Floats = low + data_NB[:, -1].astype(np.float32) * (width / np.float32(_STEPS))
        return _codes.Codes(data_NB[:, :-1], codes.dim), ratio_N


def _ratios(X_ND: Floats, decoded_ND: Floats) -> Floats:
    whole_N, kept_N = np.linalg.norm(X_ND, axis=1), np.linalg.norm(decoded_ND, axis=1)
    ratio_N: Floats = np.divide(whole_N, kept_N, out=np.ones_like(whole_N), where=kept_N > 0)
    return ratio_N
