"""A query as one vector: of a text, a medium, several of them with weights, items of the library, without others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.encode import encode_stream
from btoks.errors import BtoksError
from btoks.media import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_AGAINST = 0.5
"""How much what the hits should not be like counts, against what they should be."""


@dataclass(frozen=True)
class Asked:
    """A query's vector, its words, and the kind of item it is itself if it is none of text; itself a query as well."""

    vector_D: NDArray[np.float32]
    words: str = ""
    kind: str | None = None


One = str | Path | Source | Mapping[str, Any] | Asked
Query = One | Sequence[tuple[One, float]]


class Asker:
    """Embeds queries with a library's model."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model

    def ask(self, query: Query | None, liked: Sequence[Any], kind: str | None, without: Any) -> Asked:
        """The query as a vector; `liked` are vectors that count as much as the query's parts, `kind` is theirs."""
        parts = _parts(query)
        vectors = [weight * self._vector(one) for one, weight in parts] + list(liked)
        if not vectors:
            raise BtoksError("query", "there is none", "give a text, a medium, or an item to be like")
        vector_D = _unit(np.sum(vectors, axis=0))
        against = [self._vector(one) for one, _ in _parts(without)]
        if against:
            vector_D = _unit(vector_D - _AGAINST * _unit(np.sum(against, axis=0)))
        words = " ".join(filter(None, (_words(one) for one, _ in parts)))
        seen = next((each for each in (_kind(one) for one, _ in parts) if each), None)
        return Asked(vector_D, words, seen or (None if words else kind))

    def _vector(self, one: One) -> NDArray[np.float32]:
        if isinstance(one, Asked):
            return one.vector_D
        if isinstance(one, str) and not one.strip():
            raise BtoksError("query", "it is empty", "give at least a word")
        given = Source(one) if isinstance(one, Path) else one
        (out,) = encode_stream(self.model, [given], task="query")
        vector_D: Any = out.embedding
        if not np.isfinite(vector_D).all():
            raise BtoksError("query", "its embedding is not finite", "ask otherwise")
        return _unit(vector_D)


def _parts(query: Any) -> list[tuple[Any, float]]:
    if query is None:
        return []
    if isinstance(query, str | Path | Source | Mapping | Asked):
        return [(query, 1.0)]
    return [each if isinstance(each, tuple) else (each, 1.0) for each in query]


def _words(one: Any) -> str:
    if isinstance(one, Asked):
        return one.words
    return one if isinstance(one, str) else str(one.get("text") or "") if isinstance(one, Mapping) else ""


def _kind(one: Any) -> str | None:
    """What kind of item a query is that is more than a text."""
    if isinstance(one, Asked):
        return one.kind
    if isinstance(one, Mapping):
        return next((key for key in ("image", "video") if one.get(key) is not None), None)
    if isinstance(one, str):
        return None
    from btoks.media import kind

    found = kind(one if isinstance(one, Source) else Source(one))
    return None if found == "text" else found


def _unit(vector_D: Any) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector_D))
    if not length > 0:
        raise BtoksError("query", "its parts cancel each other", "leave one out")
    out: NDArray[np.float32] = (vector_D / length).astype(np.float32)
    return out
