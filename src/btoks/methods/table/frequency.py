"""Frequency-adaptive rows (CAFE, 2312.03256): much used ids keep rows of their own, the others share by hash."""

from __future__ import annotations

from dataclasses import dataclass, field

from btoks.methods import method
from btoks.methods.table import _primitives, _sharing
from btoks.methods.table._primitives import State


@method(title="Private rows for much used ids", paper="2312.03256", stage="table", system="B2", identity={})
@dataclass(frozen=True)
class Frequency:
    """R = budget·V rows: `hot` of them private to the first ids, the rest shared by hash."""

    hot: float = 0.5
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fine = isinstance(self.hot, int | float) and 0 <= self.hot < 1
        _primitives.refuse_unless(fine, self, f"hot={self.hot!r}", "give a share from 0 to below 1")

    fit, lookup, bytes_for = _sharing.fit, _sharing.lookup, _sharing.bytes_for
    nbytes = property(_primitives.nbytes)
