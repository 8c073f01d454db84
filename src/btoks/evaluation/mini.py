"""The mini benchmark: the nine meta-tasks at small scale, a model beside what it must beat.

bundled/mini, or any folder of such data ──tasks──▶ model · last input token · words and colours · random
                                                    + stored scores (bundled data) or a linear map (own data)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from btoks import methods
from btoks.bottleneck import record
from btoks.bundled import benchmark
from btoks.errors import BtoksError
from btoks.evaluation.baselines import LinearMap, WordsAndColours
from btoks.evaluation.encoding import Step
from btoks.evaluation.mmeb.registry import META_TASKS, MODALITIES
from btoks.evaluation.records import tasks
from btoks.evaluation.report import Report
from btoks.evaluation.run import evaluate, evaluate_task
from btoks.evaluation.task import Task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OWN, LAST, WORDS, LINEAR, RANDOM = "model", "last input token", "words and colours", "linear map", "random"
Level = Literal["dataset", "meta_task", "modality", "overall"]


@dataclass(frozen=True)
class Line:
    """A data set or a mean over data sets: a score a column."""

    level: Level
    name: str
    queries: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """All lines, the model's column first, and the report behind it."""

    lines: Sequence[Line]
    report: Report

    def record(self) -> dict[str, Any]:
        """The table as JSON has it: a level a field, scores by column."""
        found: dict[str, Any] = {"model": self.report.model, "settings": self.report.settings}
        for line in self.lines:
            values = {"queries": line.queries, **line.scores}
            found.setdefault(line.level, {})[line.name] = values
        return {**found, "overall": found["overall"]["all"], "seconds": round(self.report.seconds, 1)}


@dataclass(frozen=True)
class Bench:
    """The tasks of a split of some data."""

    home: Path
    split: str
    layers: bool
    tasks: Sequence[Task]

    @classmethod
    def of(cls, data: Path | None = None, split: str = "test", *, layers: bool = True) -> Bench:
        """The bundled data, or a folder of such data.

        >>> len(Bench.of().tasks)
        36
        """
        home = benchmark() if data is None else data
        return cls(home, split, layers, tasks(home, split, layers=layers))

    def passes(self) -> dict[str, int]:
        """How many items the model embeds for each task, as itself and at the last input token."""
        counts = {task.name: len(task.queries) + len(task.corpus) for task in self.tasks}
        return counts | {_again(name): count for name, count in counts.items()}


def measure(
    model: SentenceTransformer,
    bench: Bench,
    *,
    out: Path | None = None,
    name: str | None = None,
    begin: Callable[[str, int], object] | None = None,
    step: Step | None = None,
) -> Table:
    """Evaluate a model and its baselines. `begin` hears of every pass over a task, `step` of embedded items.

    >>> measure(model, Bench.of()).lines[-1].name  # doctest: +SKIP
    'all'
    """

    def told(named: Callable[[str], str]) -> Iterator[Task]:
        for task in bench.tasks:
            if begin is not None:
                begin(named(task.name), len(task.queries) + len(task.corpus))
            yield task

    own = bench.home == benchmark()
    settings = {"benchmark": "mini", "split": bench.split, "layers": bench.layers, "data": data_key(bench.home)}
    report = evaluate(model, told(str), out=out, name=name, step=step, settings=settings)
    columns = {OWN: report.scores()}
    with methods.apply(model, methods.create("pooling", "last_input" if record(model)["tokens"] else "last")):
        columns[LAST] = evaluate(model, told(_again), step=step).scores()
    columns |= stored(bench) if own else {}
    columns |= baselines(bench.tasks, {} if own else _train(bench))
    columns[RANDOM] = {result.name: result.chance or 0.0 for result in report.results}
    return Table(list(lines(bench.tasks, columns)), report)


def data_key(home: Path) -> str:
    """The content of all records, pools and page texts."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(home.glob("*/*.json*")):
        if (file.parent / "records.jsonl").is_file():
            digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}:".encode() + file.read_bytes())
    return digest.hexdigest()


def stored(bench: Bench) -> dict[str, dict[str, float]]:
    """The scores that come along with the bundled data, of models that do not: the JSON files beside them."""
    held = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(bench.home.glob("*.json"))]
    return {each["name"]: each["scores"]["layers" if bench.layers else "pictures"] for each in held}


def baselines(found: Sequence[Task], train: Mapping[str, Task]) -> dict[str, dict[str, float]]:
    """What counting gets on each task, and what a linear map gets that was fitted on the training task of that name."""
    columns: dict[str, dict[str, float]] = {WORDS: {}, LINEAR: {}}
    for task in map(_opened, found):
        columns[WORDS][task.name] = evaluate_task(WordsAndColours.of(task), task).score
        if task.name in train:
            fitted = LinearMap.fitted(task, _opened(train[task.name]))
            columns[LINEAR][task.name] = evaluate_task(fitted, task).score
    return {name: scores for name, scores in columns.items() if len(scores) == len(found)}


def lines(found: Sequence[Task], columns: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """Every data set, then the plain means by meta-task, by modality and over all data sets."""
    for task in found:
        scores = {column: values[task.name] for column, values in columns.items()}
        yield Line("dataset", task.name, len(task.queries), scores)
    for name in META_TASKS:
        yield from _mean("meta_task", name, [task for task in found if task.about["meta_task"] == name], columns)
    for name in MODALITIES:
        yield from _mean("modality", name, [task for task in found if task.about["modality"] == name], columns)
    yield from _mean("overall", "all", found, columns)


def _mean(
    level: Level, name: str, chosen: Sequence[Task], columns: Mapping[str, Mapping[str, float]]
) -> Iterator[Line]:
    if chosen:
        means = {
            column: math.fsum(values[task.name] for task in chosen) / len(chosen) for column, values in columns.items()
        }
        yield Line(level, name, sum(len(task.queries) for task in chosen), means)


def _train(bench: Bench) -> dict[str, Task]:
    try:
        return {task.name: task for task in tasks(bench.home, "train", layers=bench.layers)}
    except BtoksError:  # such data have no training split: there is nothing to fit a map on
        return {}


def _again(name: str) -> str:
    return f"{name}, {LAST}"


def _opened(task: Task) -> Task:
    """The task with its media decoded once for all that follows."""
    return dataclasses.replace(task, queries=[*task.queries], corpus=[*task.corpus])
