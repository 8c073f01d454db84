"""Exact search: all vectors as arrays in memory, one a kind, so that a search among one kind reads only its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.library.schema import flat, pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """Ids and unit vectors by kind, as they were at a version of the table."""

    kinds: dict[str, tuple[Any, Vectors]]
    version: int = 0
    states: int = 1

    @classmethod
    def of(cls, table: Any, version: int = 0, states: int = 1) -> Scan:
        """The columns `id`, `vector` and, if there is one, `kind` of a table."""
        table = table.combine_chunks()
        if "kind" not in table.schema.names:
            return cls({"": _arrays(table, states)}, version, states)
        kinds = sorted(set(table["kind"].to_pylist()))
        parts = {kind: table.filter(pa.compute.equal(table["kind"], kind)) for kind in kinds}
        return cls({kind: _arrays(part, states) for kind, part in parts.items()}, version, states)

    def nearest(self, vector_D: Vectors, k: int, kind: str | None = None, among: Any = None) -> list[tuple[str, float]]:
        """The k nearest as (id, cosine), by score, then id; of one kind, or among some ids only."""
        found: list[tuple[str, float]] = []
        for name, (ids, vectors_ND) in self.kinds.items():
            if kind is None or name == kind:
                found += best(ids, self.compare(vector_D[None], vectors_ND)[0], k, among)
        return sorted(found, key=lambda each: (-each[1], each[0]))[:k]

    def compare(self, queries_QD: Vectors, vectors_ND: Vectors) -> Vectors:
        """How alike queries and items are (Q, N): their cosine, or MaxSim where an item has several vectors."""
        if self.states == 1:
            return (vectors_ND @ queries_QD[0])[None] if len(queries_QD) == 1 else queries_QD @ vectors_ND.T
        import torch

        from btoks.similarity import maxsim

        # Tensors are made of arrays that can be written alone; those of a table cannot.
        asked, held = (torch.from_numpy(np.require(each, requirements="W")) for each in (queries_QD, vectors_ND))
        out: Vectors = maxsim(asked, held, self.states).numpy()
        return out


def _arrays(table: Any, states: int) -> tuple[Any, Vectors]:
    vectors: Any = table["vector"].combine_chunks()
    if isinstance(vectors, pa.ChunkedArray):
        vectors = vectors.chunk(0)
    ids = table["id"].combine_chunks()
    return ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids, flat(vectors, states)


def best(ids: Any, scores_N: Vectors, k: int, among: Any = None) -> list[tuple[str, float]]:
    """The k best of some scores as (id, score), by score, then id; among some ids only."""
    places_N = np.arange(len(scores_N))
    if among is not None:
        places_N = np.flatnonzero(pa.compute.is_in(ids, value_set=among).to_numpy(zero_copy_only=False))
        scores_N = scores_N[places_N]
    if len(places_N) > k:
        # Every row that ties with the last one stays: which of them counts is decided by the id.
        kept = scores_N >= np.partition(scores_N, -k)[-k]
        places_N, scores_N = places_N[kept], scores_N[kept]
    names = ids.take(pa.array(places_N)).to_pylist()
    return sorted(zip(names, map(float, scores_N), strict=True), key=lambda each: (-each[1], each[0]))[:k]
