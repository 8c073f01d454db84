"""Block deduplication: blocks with the same signature are stored once, as their mean.

A signature is the signs of random projections (locality-sensitive hashing); as many bits are used as keep the number of
different ones in the budget. Where different blocks are few, each is stored and nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State

_BITS = 40


@method(
    title="Deduplicated blocks",
    paper="2311.15578",
    stage="table",
    system="B2",
    no_identity="an index stands beside the blocks: a table without repeated blocks does not fit its own bytes",
)
@dataclass(frozen=True)
class Dedup:
    """Runs of `block` dimensions (at most D; the last may be shorter), four bytes of index for each."""

    block: int = 64
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.block, "block")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Merge blocks until they fit."""
        rows_VD = _primitives.table(table_VD)
        rows, dim = len(rows_VD), rows_VD.shape[1]
        allowed = self._blocks(rows, dim, budget)
        size = min(self.block, dim)
        blocks_KB = np.pad(rows_VD, ((0, 0), (0, -dim % size))).reshape(-1, size)
        distinct, index = np.unique(blocks_KB, axis=0, return_inverse=True)
        if len(distinct) > allowed:
            index = self._merged(blocks_KB, allowed)
        stored = (
            _primitives.means(blocks_KB, index.ravel(), int(index.max()) + 1) if len(distinct) > allowed else distinct
        )
        index_VJ = index.reshape(rows, -1).astype(np.int32)
        return replace(self, state={"blocks": stored, "index": index_VJ, "shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """The stored blocks side by side."""
        ids = _primitives.asked(self, ids_N)
        index_NJ = self.state["index"][ids]
        rows: Floats = self.state["blocks"][index_NJ].reshape(
            len(ids), index_NJ.shape[1] * self.state["blocks"].shape[1]
        )
        return rows[:, : int(self.state["shape"][1])]

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """At most 4·V·⌈D/block⌉ of index and 4·block for each block that fits; fewer blocks where more are alike."""
        size = min(self.block, dim)
        return 4 * rows * -(-dim // size) + 4 * size * self._blocks(rows, dim, budget)

    nbytes = property(_primitives.nbytes)

    def _blocks(self, rows: int, dim: int, budget: float) -> int:
        size = min(self.block, dim)
        index = 4 * rows * -(-dim // size)
        _primitives.refuse_below(index + 4 * size, self, budget, rows, dim)
        return (_primitives.allowance(budget, rows, dim) - index) // (4 * size)

    def _merged(self, blocks_KB: Floats, allowed: int) -> Any:
        """An index by signature, with as many bits as keep it within `allowed`."""
        planes = np.random.default_rng((self.seed, 0x64656475)).standard_normal((blocks_KB.shape[1], _BITS))
        signs = (blocks_KB - blocks_KB.mean(axis=0)) @ planes > 0
        low, high = 0, _BITS
        while low < high:
            bits = (low + high + 1) // 2
            fine = len(np.unique(_signature(signs, bits))) <= allowed
            low, high = (bits, high) if fine else (low, bits - 1)
        return np.unique(_signature(signs, low), return_inverse=True)[1]


def _signature(signs: Any, bits: int) -> Any:
    return signs[:, :bits] @ (1 << np.arange(bits, dtype=np.int64))
