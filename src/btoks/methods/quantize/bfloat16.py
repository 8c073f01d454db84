"""bfloat16: float32's range with 8 significant bits; the rounding is torch's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods import method
from btoks.methods.quantize import _codes, _kernels, _primitives, _scanning
from btoks.methods.quantize._primitives import Floats


def _wide(block: NDArray[np.int16]) -> Tensor:
    return _kernels.tensor(block).view(torch.bfloat16).float()


@method(
    title="Brain floats",
    paper="1905.12322",
    stage="quantize",
    system="B1",
    no_identity="8 of 24 significant bits are kept: relative error ≤ 2⁻⁸",
)
@dataclass(frozen=True)
class Bfloat16:
    """A cast: 2·D bytes, any magnitude."""

    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    fit = _primitives.unchanged

    def encode(self, X_ND: Any) -> _codes.Codes:
        """Round to nearest, ties to even."""
        rows_ND = _primitives.matrix(X_ND)
        return _codes.pack(_kernels.tensor(rows_ND).bfloat16().view(torch.int16).numpy(), dim=rows_ND.shape[1])

    def decode(self, codes: _codes.Codes) -> Floats:
        """The rounded numbers."""
        return _wide(_codes.unpack(_primitives.data(self, codes), np.int16)).numpy()

    def score(self, query_MD: Any, codes: _codes.Codes) -> Floats:
        """By faiss for few queries, if its kernel leaves them exact; else widened block by block, then multiplied."""
        query, data_NB = _primitives.queries(query_MD, codes), _primitives.data(self, codes)
        if _scanning.helps(query) and _scanning.keeps_query(codes.dim):
            return _scanning.short_floats(query, data_NB, "bf16")
        return _kernels.rows(query, _codes.unpack(data_NB, np.int16), _wide)

    def bytes_per_vector(self, dim: int) -> int:
        """2·D."""
        return 2 * dim

    state_nbytes = property(_primitives.state_nbytes)
