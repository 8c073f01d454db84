"""Scores of data sets brought together as the leaderboard does it: plain means, every data set counting the same.

Read are our own result files and the leaderboard's file of a model, under old and new names of the data sets. Two
revisions of the benchmark are never mixed, and an incomplete group has no mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from btoks.errors import BtoksError
from btoks.evaluation.mmeb.registry import META_TASKS, MODALITIES, REVISIONS, Row, table


@dataclass(frozen=True)
class Scores:
    """One model's score per data set, and the values of the single queries where they are known."""

    model: str
    dataset: Mapping[str, float]
    revision: str
    unofficial: tuple[str, ...] = ()
    queries: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """Means by meta-task (and its groups), modality and over all; None where data sets are missing."""

    dataset: dict[str, float]
    meta_task: dict[str, float | None]
    group: dict[str, float | None]
    modality: dict[str, float | None]
    overall: float | None
    missing: list[str]

    def record(self) -> dict[str, Any]:
        """The table as JSON has it."""
        return {key: getattr(self, key) for key in ("dataset", "meta_task", "modality", "overall", "missing")}


def aggregate(scores: Mapping[str, float], *, partial: bool = False) -> Aggregate:
    """The means of a model's scores; with `partial` also over what is there of an incomplete group.

    >>> aggregate({"QVHighlight": 0.5}, partial=True).meta_task["V-MR"]
    0.5
    """
    rows = table()
    strange = [name for name in scores if name not in {row.name for row in rows}]
    if strange:
        raise BtoksError(strange[0], "no data set of the benchmark", "leave it out")

    def over(chosen: Iterable[Row]) -> float | None:
        names = [row.name for row in chosen]
        there = [scores[name] for name in names if name in scores]
        whole = len(there) == len(names) or (partial and there)
        return math.fsum(there) / len(there) if whole else None

    groups = dict.fromkeys(row.group for row in rows if row.group)
    return Aggregate(
        dataset={row.name: scores[row.name] for row in rows if row.name in scores},
        meta_task={task: over(row for row in rows if row.meta_task == task) for task in META_TASKS},
        group={group: over(row for row in rows if row.group == group) for group in groups},
        modality={kind: over(row for row in rows if row.modality == kind) for kind in MODALITIES},
        overall=over(rows),
        missing=[row.name for row in rows if row.name not in scores],
    )


def read(paths: Sequence[str | Path]) -> Scores:
    """One model's scores, from folders of a run, single `_score.json` files, or leaderboard files."""
    found: list[Scores] = []
    for path in map(Path, paths):
        files = sorted(path.glob("*_score.json")) if path.is_dir() else [path]
        if not files:
            raise BtoksError(str(path), "it holds no *_score.json", "pass the --out folder of a run")
        found += [_read(file) for file in files]
    return merged(found)


def merged(parts: Sequence[Scores]) -> Scores:
    """Parts of one model's scores as one; refused where they are of two models, two revisions, or disagree."""
    for what in ("model", "revision"):
        values = sorted({getattr(part, what) for part in parts} - {""})
        if len(values) > 1:
            raise BtoksError("results", f"they are of {what}s {' and '.join(values)}", "aggregate each by itself")
    scores: dict[str, float] = {}
    queries: dict[str, Mapping[str, float]] = {}
    for part in parts:
        for name, score in part.dataset.items():
            if scores.setdefault(name, score) != score:
                raise BtoksError(
                    name, f"it scores {scores[name]} in one file and {score} in another", "pass one of them"
                )
        queries |= part.queries
    unofficial = tuple(sorted({name for part in parts for name in part.unofficial}))
    model, revision = (
        next((getattr(part, what) for part in parts if getattr(part, what)), "") for what in ("model", "revision")
    )
    return Scores(model, scores, revision, unofficial, queries)


def _read(file: Path) -> Scores:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return _submission(file, held) if "metrics" in held and "dataset" not in held else _own(file, held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no readable result ({type(error).__name__}: {error})"
        raise BtoksError(str(file), what, "pass a result of `btoks eval` or of the leaderboard") from error


def _own(file: Path, held: Mapping[str, Any]) -> Scores:
    """A `_score.json` and the predictions beside it."""
    name, row = held["dataset"], {each.name: each for each in table()}.get(held["dataset"])
    predictions = file.with_name(file.name.removesuffix("_score.json") + "_pred.jsonl")
    values: dict[str, float] = {}
    if predictions.is_file():
        with predictions.open(encoding="utf-8") as lines:
            values = {each["query"]: each["value"] for each in map(json.loads, lines)}
    # Only a data set that the revisions have differently says which one a table is of.
    revision = held.get("revision", "") if row is not None and row.older else ""
    unofficial = () if held.get("official", True) else (name,)
    model = held.get("model", {})
    said = f"{model.get('name')}@{model.get('revision')}" if model else ""
    return Scores(said, {name: held["score"]}, revision, unofficial, {name: values} if values else {})


def _submission(file: Path, held: Mapping[str, Any]) -> Scores:
    """A leaderboard file. Data sets that were not run hold a word in place of their metrics."""
    names = {(row.at(revision).published): (row, revision) for row in table() for revision in REVISIONS}
    scores: dict[str, float] = {}
    revisions = set()
    for entries in held["metrics"].values():
        for key, metrics in entries.items():
            row, revision = names.get(key, (None, ""))
            if row is None or isinstance(metrics, str):
                continue
            scores[row.name] = float(metrics[row.metric])
            if row.at("2.0").published != row.at("fixed").published:
                revisions.add(revision)
    if len(revisions) > 1:
        raise BtoksError(str(file), "it mixes page sets of before and after their fix", "split it")
    return Scores(str(held.get("metadata", {}).get("model_name") or file.stem), scores, next(iter(revisions), ""))
