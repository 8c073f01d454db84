"""From a query's vector to a ranking: kind by kind, calibrated, filtered, fused with full text, one hit a file."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from btoks.library import calibration
from btoks.library.names import from_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from btoks.library.calibration import Level
    from btoks.library.interface import Store
    from btoks.library.schema import Row

Ranking = list[tuple[str, float]]
_FUSION = 60
"""Cormack et al. 2009: how much a first place counts more than a second one."""
_DEPTH = 100
_SNIPPET = 1_000
_SHOWN = ("id", "path", "kind", "page", "start", "end", "text")


@dataclass(frozen=True)
class Hit:
    """Something found: which part of which file, and how well it matches."""

    id: str
    path: str | None
    kind: str
    page: int | None
    start: float | None
    end: float | None
    score: float
    text: str | None

    def json(self) -> dict[str, Any]:
        """The hit as `--json` prints it."""
        return asdict(self)


def calibrated(
    store: Store, vector_D: NDArray[np.float32], k: int, where: str | None, levels: Mapping[str, Level]
) -> Ranking:
    """The k best rows of all kinds by (score, id)."""
    found = [
        (name, calibration.score(levels[kind].value(cosine)))
        for kind, nearest in store.nearest(vector_D, k, where, list(levels)).items()
        for name, cosine in nearest
    ]
    return ordered(found)[:k]


def ordered(found: Iterable[tuple[str, float]]) -> Ranking:
    """By score, then id."""
    return sorted(found, key=lambda each: (-each[1], each[0]))


def fused(*rankings: list[str]) -> Ranking:
    """Reciprocal rank fusion, where the first place in all of them makes 1.

    >>> fused(["a", "b"], ["b"])[0][0]
    'b'
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + (_FUSION + 1) / (_FUSION + rank) / len(rankings)
    return ordered(scores.items())


def depth(k: int) -> int:
    """How far both rankings are read before they are fused."""
    return max(_DEPTH, 4 * k)


def hits(
    store: Store,
    ask: Callable[[int], Ranking],
    k: int,
    *,
    group: bool = False,
    without: frozenset[str] = frozenset(),
    words: str = "",
) -> list[Hit]:
    """The first k of a ranking that can be asked for more: without some contents, one a file if wanted."""
    reach = k + len(without) + (3 * k if group else 0)
    while True:
        ranking = ask(reach)
        chosen = list(_chosen(store, ranking, group=group, without=without))[:k]
        if len(chosen) == k or len(ranking) < reach:
            return [_hit(row, score, words) for row, score in chosen]
        reach *= 4


def _chosen(store: Store, ranking: Ranking, *, group: bool, without: frozenset[str]) -> Iterator[tuple[Row, float]]:
    rows = {row["id"]: row for row in store.by("id", [name for name, _ in ranking], [*_SHOWN, "content"])}
    seen: set[str] = set()
    for name, score in ranking:
        row = rows.get(name)  # another process may have removed it since
        if row is None or row["content"] in without or (group and row["content"] in seen):
            continue
        seen.add(row["content"])
        yield row, score


def _hit(row: Row, score: float, words: str) -> Hit:
    path, text = row["path"], row["text"]
    shown = {name: row[name] for name in ("id", "kind", "page", "start", "end")}
    path = None if path is None else from_text(path)
    return Hit(path=path, text=None if text is None else snippet(text, words), score=score, **shown)


def snippet(text: str, words: str) -> str:
    """The stretch of a long text that holds most of some words; a short text whole.

    >>> snippet("x " * 1000 + "a red fox " + "y " * 1000, "fox").count("fox")
    1
    """
    if len(text) <= _SNIPPET:
        return text
    wanted = set(re.findall(r"\w+", words.lower()))
    matches = ((match.start(), match[0].lower()) for match in re.finditer(r"\w+", text))
    found = [(at, word) for at, word in matches if word in wanted]
    best = max(
        (place for place, _ in found),
        key=lambda start: (len({word for at, word in found if start <= at < start + _SNIPPET // 2}), -start),
        default=0,
    )
    start = max(0, min(best - _SNIPPET // 4, len(text) - _SNIPPET))
    return text[start : start + _SNIPPET].strip()
