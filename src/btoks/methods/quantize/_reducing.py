"""What the dimension reducers share, taken over by name: on their own they keep the short vectors as floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from btoks.methods.quantize import _codes, _kernels, _primitives
from btoks.methods.quantize._primitives import Floats, Quantizer, Reducer


class Reducing(Quantizer, Reducer, Protocol):
    """A reducer with its setting `components`: a fraction of D or a number."""

    @property
    def components(self) -> float | int:
        """How much of the width is kept."""
        ...


def width(reducer: Reducing, dim: int) -> int:
    """K, from the setting `components`."""
    return _primitives.counted(reducer, reducer.components, dim, "components")


def bytes_per_vector(reducer: Reducing, dim: int) -> int:
    """4·K."""
    return 4 * reducer.width(dim)


def encode(reducer: Reducing, X_ND: Any) -> _codes.Codes:
    """The short vectors as floats."""
    rows_ND = _primitives.matrix(X_ND)
    return _codes.pack(reducer.reduce(rows_ND), dim=rows_ND.shape[1])


def decode(reducer: Reducing, codes: _codes.Codes) -> Floats:
    """The short vectors, lifted."""
    return reducer.lift(_codes.unpack(_primitives.data(reducer, codes), np.float32), codes.dim)


def score(reducer: Reducing, query_MD: Any, codes: _codes.Codes) -> Floats:
    """A product on the short side, or with vectors lifted block by block where lifting is not affine."""
    query = _primitives.queries(query_MD, codes)
    short_NK: Floats = _codes.unpack(_primitives.data(reducer, codes), np.float32)
    folded = reducer.fold(query)
    if folded is None:
        return lifted(query, short_NK, lambda block: reducer.lift(block, codes.dim))
    product: Floats = folded[0] @ short_NK.T + folded[1]
    return product


def not_affine(reducer: Reducing, query_MD: Floats) -> None:
    """The `fold` of a reducer whose `lift` is not affine: there is none."""


def lifted(query_MD: Floats, stored: NDArray[Any], lift: Callable[[NDArray[Any]], Floats]) -> Floats:
    """Products with rows that are lifted block by block: for methods without a faster way."""
    return _kernels.rows(query_MD, stored, lambda block: torch.from_numpy(lift(block)))


def same_length(Z_NK: Floats, X_ND: Floats) -> Floats:
    """Short vectors with the lengths of the whole ones; zero stays zero."""
    whole_N1, kept_N1 = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X_ND, Z_NK))
    scaled_NK: Floats = Z_NK * np.divide(whole_N1, kept_N1, out=np.ones_like(whole_N1), where=kept_N1 > 0)
    return scaled_NK
