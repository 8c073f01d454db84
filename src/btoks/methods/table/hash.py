"""Hashing: ids share rows (Weinberger et al., 0902.2206); a shared row is the mean of those it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

from btoks.methods import method
from btoks.methods.table import _primitives, _sharing
from btoks.methods.table._primitives import State


@method(title="Hashed rows", paper="2311.15578", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class Hash:
    """R = budget·V rows; with all of them every id has its own."""

    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    fit, lookup, bytes_for = _sharing.fit, _sharing.lookup, _sharing.bytes_for
    nbytes = property(_primitives.nbytes)
