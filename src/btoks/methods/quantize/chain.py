"""A dimension reducer and a number format, one after the other: `pca:0.5+float8` (2505.00105)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np

from btoks.methods import create, method
from btoks.methods.quantize import _codes, _primitives, _reducing
from btoks.methods.quantize._primitives import Floats, Quantizer, Reducer


@method(
    title="Reducer, then number format",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    identity={"parts": ("pca:1.0", "float32")},
)
@dataclass(frozen=True)
class Chain:
    """Two methods by their short strings; the format is fitted on, and codes, the short vectors."""

    parts: Sequence[str] = ("pca:0.5", "float8")
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        methods = [create("quantize", part) for part in self.parts if isinstance(part, str)]
        fine = (
            len(methods) == len(self.parts) == 2
            and isinstance(methods[0], Reducer)
            and not isinstance(methods[1], Reducer | Chain)
        )
        way_out = "give a dimension reducer and a number format, such as pca:0.5+float8"
        _primitives.refuse_unless(fine, self, f"cannot join {'+'.join(map(str, self.parts))}", way_out)

    def fit(self, X_ND: Any) -> Self:
        """Fit the reducer, then the format on the short vectors."""
        rows_ND = _primitives.matrix(X_ND)
        first, second = self._methods()
        reducer = first.fit(rows_ND)
        short = second.fit(reducer.reduce(rows_ND))
        state = {"width": np.array([rows_ND.shape[1]])}
        for part, learnt in (("reducer", reducer.state), ("format", short.state)):
            state |= {f"{part}.{key}": array for key, array in learnt.items()}
        return replace(self, state=state)

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The format's codes of the short vectors."""
        rows_ND = _primitives.encoding(self, X_ND, int(_primitives.learnt(self, "width")[0]))
        reducer, short = self._methods()
        return _codes.Codes(short.encode(reducer.reduce(rows_ND)).data_NB, rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """Decoded, then lifted."""
        reducer, short = self._methods()
        return reducer.lift(short.decode(self._short(codes)), codes.dim)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """The format's scores of the queries on the short side; lifted block by block where lifting is not affine."""
        reducer, short = self._methods()
        query, inner = _primitives.queries(query_MD, codes), self._short(codes)
        folded = reducer.fold(query)
        if folded is not None:
            return short.score(folded[0], inner) + folded[1]
        return _reducing.lifted(query, inner.data_NB, lambda block: self.decode(_codes.Codes(block, codes.dim)))

    def bytes_per_vector(self, dim: int) -> int:
        """The format's bytes for the reduced width."""
        reducer, short = self._methods()
        return short.bytes_per_vector(reducer.width(dim))

    state_nbytes = property(_primitives.state_nbytes)

    def _methods(self) -> tuple[Reducer, Quantizer]:
        reducer, short = (
            replace(create("quantize", spec), state=_primitives.within(self.state, part))
            for spec, part in zip(self.parts, ("reducer.", "format."), strict=True)
        )
        return cast("Reducer", reducer), cast("Quantizer", short)

    def _short(self, codes: _codes.Codes) -> _codes.Codes:
        reducer, _ = self._methods()
        return _codes.Codes(_primitives.data(self, codes), reducer.width(codes.dim))
