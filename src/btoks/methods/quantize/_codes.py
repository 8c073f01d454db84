"""Codes: one row of bytes a vector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError
from btoks.methods import stored


@dataclass(frozen=True, eq=False)
class Codes:
    """Compressed vectors: `data_NB` holds one row of B bytes a vector, `dim` is the width they had.

    >>> Codes(np.zeros((3, 2), np.uint8), dim=4).nbytes
    6
    """

    data_NB: NDArray[np.uint8]
    dim: int

    def __len__(self) -> int:
        return len(self.data_NB)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Codes:
        return Codes(self.data_NB[rows], self.dim)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes alone."""
        return self.data_NB.nbytes

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        stored.write(Path(path), {"codes": self.data_NB}, {"dim": self.dim})

    @classmethod
    def load(cls, path: str | Path) -> Codes:
        """Read a file that `save` wrote."""
        arrays, about = stored.read(Path(path), "codes", {"codes"}, {"dim"})
        data_NB = arrays["codes"]
        if data_NB.ndim != 2 or data_NB.dtype != np.uint8 or not isinstance(about["dim"], int):
            raise BtoksError(str(path), "not codes", "pass a file written by Codes.save")
        return cls(data_NB, about["dim"])


def pack(*parts: NDArray[Any], dim: int) -> Codes:
    """Codes from arrays of any type with one row a vector; the bytes of each row stand side by side.

    >>> pack(np.ones((2, 3), np.int8), np.ones((2, 1), np.float32), dim=3).data_NB.shape
    (2, 7)
    """
    columns = [
        np.ascontiguousarray(part).view(np.uint8).reshape(len(part), part.shape[1] * part.itemsize) for part in parts
    ]
    return Codes(columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1), dim)


def unpack(data_NB: NDArray[np.uint8], dtype: Any) -> NDArray[Any]:
    """Bytes as numbers again (N, B / itemsize)."""
    return np.ascontiguousarray(data_NB).view(dtype)
