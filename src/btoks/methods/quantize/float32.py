"""No compression: the identity of the family, and what everything else is measured against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from btoks.methods import method
from btoks.methods.quantize import _codes, _primitives
from btoks.methods.quantize._primitives import Floats


@method(title="32-bit floats", paper="2505.00105", stage="quantize", system="B1", identity={})
@dataclass(frozen=True)
class Float32:
    """Vectors as they are: 4·D bytes."""

    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    fit = _primitives.unchanged

    def encode(self, X_ND: Any) -> _codes.Codes:
        """The bytes of the floats."""
        rows_ND = _primitives.matrix(X_ND)
        return _codes.pack(rows_ND, dim=rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The floats, exactly."""
        return _codes.unpack(_primitives.data(self, codes), np.float32)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """One matrix product."""
        product: Floats = _primitives.queries(query_MD, codes) @ self.decode(codes).T
        return product

    def bytes_per_vector(self, dim: int) -> int:
        """4·D."""
        return 4 * dim

    state_nbytes = property(_primitives.state_nbytes)
