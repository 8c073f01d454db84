"""What a library asks of the place where its rows are: add, delete, get, search, stats; the same of every store.

`store.py` has it in LanceDB, which also has versions, codes and full text; `qdrant.py` in Qdrant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from btoks.library.scan import Scan
    from btoks.library.schema import Row

    Vectors = NDArray[np.float32]

LANCE, QDRANT = "lance", "qdrant"
STORES = (LANCE, QDRANT)


class Store(Protocol):
    """What is asked of the place where the rows are; scores are cosines, and ties go to the smaller id."""

    @property
    def dim(self) -> int | None:
        """The vectors' dimension; None while there are none."""

    @property
    def version(self) -> int:
        """Another one after a write."""

    @property
    def full_text(self) -> bool:
        """Whether words can be found."""

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows whole; one with a known id takes the old one's place."""

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows, and tell how many there were."""

    def get(self, where: str, columns: Sequence[str] | None = None) -> list[Row]:
        """The rows that a condition holds for; all columns without a choice."""

    def by(self, column: str, values: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """The rows with one of some values; all columns without a choice."""

    def contents(self) -> set[str]:
        """The contents that are there."""

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of some rows."""

    def search(self, vector_D: Vectors, k: int, where: str | None = None) -> list[tuple[str, float]]:
        """The k nearest rows that a condition holds for as (id, cosine), the best first."""

    def nearest(
        self, vector_D: Vectors, k: int, where: str | None, kinds: Sequence[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """The k nearest rows of each kind that a condition holds for, the best first."""

    def find(self, words: str, k: int, where: str | None = None) -> list[str]:
        """The ids of the rows whose text matches best, the best first."""

    def sample(self, count: int) -> Scan:
        """Vectors spread evenly over the rows; all of them where there are no more."""

    def count(self, where: str | None = None) -> int:
        """How many rows there are that a condition holds for."""

    def kinds(self) -> dict[str, int]:
        """How many rows there are of each kind."""

    def types(self) -> dict[str, Any]:
        """The type of each column that holds metadata."""

    def stats(self) -> dict[str, Any]:
        """Rows by kind, vectors' dimension, bytes on disk."""

    def tidy(self) -> None:
        """Do what is due after writing."""
