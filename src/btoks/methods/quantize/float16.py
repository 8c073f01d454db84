"""Half precision (IEEE 754 binary16): half the bytes, relative error at most 2⁻¹¹ of normal numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives, _scanning
from btoks.methods.quantize._primitives import Floats

_LARGEST = 65_504.0


@method(
    title="16-bit floats",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    no_identity="11 of 24 significant bits are kept: relative error ≤ 2⁻¹¹ from 2⁻¹⁴ on",
)
@dataclass(frozen=True)
class Float16:
    """A cast: 2·D bytes."""

    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    fit = _primitives.unchanged

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Round to nearest; refuses what is beyond the format."""
        rows_ND = _primitives.matrix(X_ND)
        if not _primitives.bounded(rows_ND, _LARGEST):
            beyond = int(np.flatnonzero((np.abs(rows_ND) > _LARGEST).any(axis=1))[0])
            reason = f"row {beyond} goes beyond {_LARGEST:.0f}"
            raise BtoksError(_primitives.name(self), reason, "normalise the vectors or use bfloat16")
        # torch's conversion is vectorised, numpy's is not: five times as fast here.
        return _codes.pack(_kernels.tensor(rows_ND).half().numpy(), dim=rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The rounded numbers."""
        return _codes.unpack(_primitives.data(self, codes), np.float16).astype(np.float32)

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """By faiss for few queries; else widened block by block, then multiplied."""
        query, data_NB = _primitives.queries(query_MD, codes), _primitives.data(self, codes)
        if _scanning.helps(query):
            return _scanning.short_floats(query, data_NB, "fp16")
        return _kernels.rows(query, _codes.unpack(data_NB, np.float16), lambda block: _kernels.tensor(block).float())

    def bytes_per_vector(self, dim: int) -> int:
        """2·D."""
        return 2 * dim

    state_nbytes = property(_primitives.state_nbytes)
