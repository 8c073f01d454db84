"""The quality of methods on vectors: against the exact order by inner product and, with labels, on the task itself.

queries given      they ask, and all vectors are stored
no queries         some vectors are held out, and ask
many vectors       the methods are fitted on some, and judged on others that they have not seen
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btoks import methods
from btoks.errors import BtoksError
from btoks.evaluation import metrics
from btoks.methods.quantize import Quantizer
from btoks.tradeoff.reading import Collection, Labels

K = 10
QUERIES, STORED = 200, 20_000
_SAME = 1e-6  # scores nearer than this, in units of the largest, are of equal rank
_TASK = f"ndcg_linear@{K}"
SLOW = ["kernel_pca:0.25", "kernel_pca:0.5", "autoencoder:0.25", "autoencoder:0.5", "umap:0.25"]
SLOW += ["kernel_pca:0.5+float8", "autoencoder:0.5+float8", "autoencoder:0.5+int8"]
"""Reducers that are not linear: minutes to fit, and scored by decoding."""


@dataclass(frozen=True)
class Point:
    """One method measured: bytes a vector, bytes kept once, `ndcg` and `recall` at 10 against the exact order.

    With labels, `task` is nDCG@10 by them, and `kept` its share of what the exact vectors reach.
    """

    spec: str
    bytes_per_vector: int
    state_nbytes: int
    ndcg: float
    recall: float
    seconds: float
    task: float | None = None
    kept: float | None = None

    @property
    def quality(self) -> float:
        """What methods are chosen by: the share of the task's score that is kept; nDCG@10 where there is no task."""
        return self.ndcg if self.kept is None else self.kept

    def total(self, rows: int) -> int:
        """Bytes of a collection of this many vectors."""
        return rows * self.bytes_per_vector + self.state_nbytes


@dataclass(frozen=True, eq=False)
class _Trial:
    """What is fitted on, stored and asked; for each query the gains of the stored rows that are relevant."""

    fit_ND: NDArray[np.float32]
    stored_ND: NDArray[np.float32]
    query_MD: NDArray[np.float32]
    relevant: list[dict[Any, float]] | None = None


def candidates(dim: int, *, slow: bool = False) -> list[str]:
    """The methods to measure on vectors of width D, by their short strings; with `slow` those of `SLOW`, too."""
    formats = ["float32", "float16", "bfloat16", "float8", "float8:e5m2", "int8", "int4", "ternary", "binary", "rabitq"]
    formats += [f"rescaled:{each}" for each in ("float8", "int8", "int4", "ternary", "binary")]
    sizes = [m for m in (4, 8, 16, 32, 64) if m <= dim // 2]
    books = [f"{name}:{m}" for m in sizes for name in ("pq", "opq")] + [f"residual:{m}" for m in sizes if m <= 16]
    books += [f"rescaled:pq:{m}" for m in sizes]
    reducers = [f"{name}:{share}" for name in ("pca", "matryoshka", "random_projection") for share in (0.25, 0.5)]
    chains = [
        f"{reducer}+{short}"
        for reducer in ("pca:0.25", "pca:0.5", "pca:0.75", "pca:0.5,true", "matryoshka:0.5")
        for short in ("float8", "int8", "int4", "rescaled:float8", "rescaled:int8", "rescaled:int4")
    ]
    return [*formats, *books, *(reducers + chains + (SLOW if slow else []) if dim >= 4 else [])]


def measure(
    vectors: Any,
    specs: Sequence[str] | None = None,
    *,
    queries: Any = None,
    labels: Labels | None = None,
    slow: bool = False,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[Point]:
    """Measure methods on vectors (an array or a `Collection`); `done` is called after each.

    `labels` name what is relevant in the vectors for each query, both by id. Without `specs` all candidates
    are measured, with `slow` the slow ones too, and a method that refuses the vectors is left out.
    """
    trial = _trial(_collection(vectors), None if queries is None else _collection(queries), labels, seed)
    exact = trial.query_MD @ trial.stored_ND.T
    best = None if trial.relevant is None else _task(exact, trial.relevant)
    points = []
    for spec in specs or candidates(trial.stored_ND.shape[1], slow=slow):
        started = time.perf_counter()
        try:
            method: Quantizer = methods.create("quantize", spec).fit(trial.fit_ND)
            scores = method.score(trial.query_MD, method.encode(trial.stored_ND))
        except BtoksError:
            if specs:
                raise
            continue
        seconds = time.perf_counter() - started
        size = method.bytes_per_vector(trial.stored_ND.shape[1])
        task = None if trial.relevant is None else _task(scores, trial.relevant)
        kept = None if task is None or best is None else task / best if best else 1.0
        points.append(Point(spec, size, method.state_nbytes, *quality(scores, exact), seconds, task, kept))
        done()
    return points


def quality(scores_MN: NDArray[np.float32], exact_MN: NDArray[np.float32]) -> tuple[float, float]:
    """nDCG@10 and recall@10: relevant is whatever is as near as the exact tenth, so that equals may swap."""
    missing = ~np.array(list(_relevant(scores_MN, exact_MN)))
    discount = 1 / np.log2(np.arange(2, 2 + missing.shape[1]))
    lost = float((missing @ discount).mean() / discount.sum())
    return max(0.0, 1 - lost), 1 - float(missing.mean())


def _relevant(scores_MN: NDArray[np.float32], exact_MN: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    for scores, exact in zip(scores_MN, exact_MN, strict=True):
        tenth = -np.partition(-exact, K - 1)[K - 1]
        yield exact[_top(scores)] >= tenth - _SAME * np.abs(exact).max()


def _top(scores_N: NDArray[np.float32]) -> NDArray[np.intp]:
    """The places of the best, the first of equals first."""
    near = np.flatnonzero(scores_N >= -np.partition(-scores_N, K - 1)[K - 1])
    return near[np.argsort(-scores_N[near], kind="stable")][:K]


def _task(scores_MN: NDArray[np.float32], relevant: list[dict[Any, float]]) -> float:
    """Mean nDCG@10 by labels."""
    found = [
        metrics.score(_top(scores).tolist(), gains, ks=(K,))[_TASK]
        for scores, gains in zip(scores_MN, relevant, strict=True)
    ]
    return float(np.mean(found))


def _collection(vectors: Any) -> Collection:
    return vectors if isinstance(vectors, Collection) else Collection(vectors)


def _trial(vectors: Collection, queries: Collection | None, labels: Labels | None, seed: int) -> _Trial:
    rows = vectors.rows_ND
    if getattr(rows, "ndim", 0) != 2 or len(rows) < 2 * K:
        shape = getattr(rows, "shape", "none")
        raise BtoksError("vectors", f"shape {shape} is too little to measure on", f"give {2 * K} rows or more")
    drawn = np.random.default_rng(seed).permutation(len(rows))
    if queries is None:
        if labels is not None:
            raise BtoksError("labels", "there are no queries that they are for", "give queries as well")
        asked = min(QUERIES, len(rows) // 10)
        fit, stored = _split(drawn[asked:])
        return _Trial(_taken(rows, fit), _taken(rows, stored), _taken(rows, np.sort(drawn[:asked])))
    if getattr(queries.rows_ND, "ndim", 0) != 2 or queries.rows_ND.shape[1] != rows.shape[1] or not len(queries):
        raise BtoksError("queries", f"shape {queries.rows_ND.shape} beside {rows.shape}", "embed both by one model")
    if labels is None:
        fit, stored = _split(drawn)
        few = np.sort(np.random.default_rng(seed).permutation(len(queries))[:QUERIES])
        return _Trial(_taken(rows, fit), _taken(rows, stored), _taken(queries.rows_ND, few))
    return _labelled(vectors, queries, labels, drawn)


def _labelled(vectors: Collection, queries: Collection, labels: Labels, drawn: NDArray[np.intp]) -> _Trial:
    """All labelled queries; what is relevant is stored, whatever else is."""
    place = {name: row for row, name in enumerate(vectors.names)}
    asked = {name: row for row, name in enumerate(queries.names)}
    for names, known, what in ((labels, asked, "queries"), (set().union(*labels.values()), place, "vectors")):
        missing = sorted(set(names) - set(known))
        if missing:
            raise BtoksError(f"label {missing[0]!r}", f"no such id among the {what}", "use the ids of the files")
    wanted = np.array(sorted({place[name] for relevant in labels.values() for name in relevant}))
    fit, stored = _split(drawn, wanted)
    at = {row: position for position, row in enumerate(stored.tolist())}
    relevant: list[dict[Any, float]] = [
        {at[place[name]]: gain for name, gain in gains.items()} for gains in labels.values()
    ]
    query_MD = _taken(queries.rows_ND, np.array([asked[name] for name in labels]))
    return _Trial(_taken(vectors.rows_ND, fit), _taken(vectors.rows_ND, stored), query_MD, relevant)


def _split(drawn: NDArray[np.intp], wanted: Any = ()) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit on and to store, the wanted among these; in a large collection most were not there to fit on."""
    first = np.asarray(wanted, np.intp)
    order, most = np.concatenate([first, drawn[~np.isin(drawn, first)]]), max(STORED, len(first))
    stored, rest = order[:most], order[most : most + STORED]
    return np.sort(rest if len(rest) >= STORED // 2 else stored), np.sort(stored)


def _taken(rows_ND: Any, places: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows_ND[places], np.float32)
