"""Models side by side: a table by meta-task, modality and over all, and how sure the differences are.

Intervals are paired bootstraps: the same queries are drawn for both models, within every data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btoks.evaluation.aggregate import Scores, aggregate
from btoks.evaluation.mmeb.registry import META_TASKS, MODALITIES, table

_DRAWS = 2000
_BLOCK = 1 << 20
_LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """One row of the comparison: a score a model, and per later model the interval of its difference to the first."""

    kind: str
    name: str
    scores: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]


def compare(models: Sequence[Scores], *, partial: bool = False, draws: int = _DRAWS, seed: int = 0) -> list[Line]:
    """Every mean of every model; with `partial` over the data sets that all of them have."""
    shared = set.intersection(*(set(model.dataset) for model in models))
    kept = [{name: model.dataset[name] for name in (shared if partial else model.dataset)} for model in models]
    means = [aggregate(scores, partial=partial) for scores in kept]
    rows = table()
    groups = [
        *(("meta_task", task, [row for row in rows if row.meta_task == task]) for task in META_TASKS),
        *(("modality", kind, [row for row in rows if row.modality == kind]) for kind in MODALITIES),
        ("overall", "all", list(rows)),
    ]
    drawn = [
        {name: differences(models[0], other, name, draws, seed) for name in sorted(shared)} for other in models[1:]
    ]
    lines = []
    for kind, name, chosen in groups:
        scores = tuple(each.overall if kind == "overall" else getattr(each, kind)[name] for each in means)
        names = [row.name for row in chosen if row.name in shared]
        known = partial or len(names) == len(chosen)
        intervals = tuple(_interval([each[name] for name in names] if known else []) for each in drawn)
        lines.append(Line(kind, name, scores, intervals))
    return lines


def differences(first: Scores, other: Scores, name: str, draws: int, seed: int) -> NDArray[np.float64] | None:
    """How much better the other model is on a data set, a value a draw; None without the queries of both."""
    mine, theirs = first.queries.get(name), other.queries.get(name)
    if not mine or not theirs or mine.keys() != theirs.keys():
        return None
    gains_Q = np.array([theirs[query] - mine[query] for query in mine])
    dice = np.random.default_rng([seed, *name.encode()])
    block = max(1, _BLOCK // len(gains_Q))
    sizes = [min(block, draws - start) for start in range(0, draws, block)]
    return np.concatenate(
        [gains_Q[dice.integers(len(gains_Q), size=(size, len(gains_Q)))].mean(axis=1) for size in sizes]
    )


def _interval(drawn: Sequence[NDArray[np.float64] | None]) -> tuple[float, float] | None:
    """Of the mean over data sets; None if one of them has no queries to draw."""
    known = [each for each in drawn if each is not None]
    if not known or len(known) < len(drawn):
        return None
    low, high = np.quantile(np.mean(known, axis=0), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
