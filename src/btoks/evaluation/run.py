"""The one way from tasks to a report: check, embed both sides, rank, score."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from btoks.errors import BtoksError
from btoks.evaluation import metrics, processes
from btoks.evaluation.encoding import Embedded, Embeds, Encoder, Step
from btoks.evaluation.ranking import Floats, Ints, rank_all, rank_lists
from btoks.evaluation.report import Prediction, Report, Result, model_facts, write_result
from btoks.evaluation.task import Task, check

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEPTH = 100
_DEVIATIONS = 2.0
"""Standard deviations above chance below which a score is suspected to be chance."""


@dataclass(frozen=True)
class Unloaded:
    """A data set that could not even be loaded: it stands in for its task, so that the others still run."""

    name: str
    error: BtoksError


def evaluate(
    model: SentenceTransformer,
    tasks: Iterable[Task | Unloaded],
    *,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    max_batch_tokens: int = 16_384,
    on_error: Literal["raise", "skip"] = "raise",
    step: Step | None = None,
    done: Callable[[Result], None] | None = None,
    settings: dict[str, Any] | None = None,
) -> Report:
    """Evaluate a model on tasks, one after the other.

    With `cache` embeddings are kept by content, so that a killed run goes on where it stopped. With `out` every
    result is written when it is there. `on_error="skip"` notes a task that cannot be run and goes on. `step` hears of
    embedded items, `done` of results. Under torchrun every process embeds its share and all return the same report.

    >>> evaluate(model, [task])["two"].score  # doctest: +SKIP
    1.0
    """
    began = time.monotonic()
    folder = Path(out) if out is not None and processes.rank() == 0 else None
    kept = Path(cache) if cache is not None else None
    with Encoder(model, cache=kept, max_batch_tokens=max_batch_tokens, step=step) as encoder:
        facts = model_facts(model, name, encoder.key.partition(" ")[0])
        report = Report(facts, {"max_batch_tokens": max_batch_tokens, **(settings or {})})
        for task in tasks:
            result = _attempted(encoder, task, report, raising=on_error == "raise")
            if result is not None and folder is not None:
                write_result(result, folder, facts, report.settings)
            if result is not None and done is not None:
                done(result)
    report.seconds = time.monotonic() - began
    if folder is not None:
        report.write(folder)
    return report


def _attempted(encoder: Embeds, task: Task | Unloaded, report: Report, *, raising: bool) -> Result | None:
    try:
        result = evaluate_task(encoder, task)
    except BtoksError as error:
        if raising:
            raise
        report.failed[task.name] = str(error)
        return None
    report.results.append(result)
    return result


def evaluate_task(encoder: Embeds, task: Task | Unloaded) -> Result:
    """One task's result."""
    if isinstance(task, Unloaded):
        raise task.error
    began = time.monotonic()
    query_ids, corpus_ids = check(task)
    queries = encoder.side(task.name, "query", task.queries)
    corpus = encoder.side(task.name, "document", task.corpus)
    rankings = _rankings(task, query_ids, corpus_ids, queries, corpus)
    predictions, scores = [], []
    for place, query in enumerate(query_ids):
        ranking, cosines = rankings[place]
        relevant = {str(key): float(gain) for key, gain in task.relevant[query].items()}
        score = metrics.score(ranking, relevant, sorted({1, 5, 10, _cut(task)}))
        if task.metric not in score:
            raise BtoksError(
                task.name, f"no metric {task.metric!r}", f"choose one of {', '.join(metrics.FAMILIES)}, with @k"
            )
        scores.append(score)
        why = queries.missing.get(place, "")
        predictions.append(Prediction(query, ranking[:DEPTH], cosines[:DEPTH], relevant, score[task.metric], why))
    lucky = _chance(task, query_ids, len(corpus_ids))
    means = metrics.mean(scores)
    return Result(
        task.name,
        task.metric,
        means,
        tuple(predictions),
        len(corpus_ids),
        {corpus_ids[place]: why for place, why in corpus.missing.items()},
        {"query": queries.prompt, "document": corpus.prompt},
        lucky,
        _warnings(task, means[task.metric], lucky, queries, corpus),
        time.monotonic() - began,
        task.about,
    )


def _cut(task: Task) -> int:
    _, _, at = task.metric.partition("@")
    if not at.isdigit() or int(at) < 1:
        raise BtoksError(
            task.name, f"no metric {task.metric!r}", f"choose one of {', '.join(metrics.FAMILIES)}, with @k"
        )
    return int(at)


def _rankings(
    task: Task, query_ids: Sequence[str], corpus_ids: Sequence[str], queries: Embedded, corpus: Embedded
) -> dict[int, tuple[tuple[str, ...], tuple[float, ...]]]:
    """Every query's ranking; empty where the query could not be embedded, without candidates that could not be."""
    place_of = {each: place for place, each in enumerate(corpus_ids)}
    order_N = np.argsort(np.argsort(np.array(corpus_ids, dtype=object), kind="stable"), kind="stable")
    asked = [place for place in range(len(query_ids)) if place not in queries.missing]
    relevant = [_places(task.relevant[query_ids[place]], place_of) for place in asked]
    vectors_QD, states = queries.vectors[asked], queries.states
    ranked: Iterable[tuple[Ints, Floats]]
    if task.candidates is not None:
        lists = [_places(task.candidates[query_ids[place]], place_of) for place in asked]
        present = [np.array([each for each in places if each not in corpus.missing], np.int64) for places in lists]
        ranked = rank_lists(vectors_QD, corpus.vectors, present, relevant=relevant, order_N=order_N, states=states)
    else:
        there = np.array([place for place in range(len(corpus_ids)) if place not in corpus.missing], np.int64)
        whole = len(there) == len(corpus_ids)
        of = {int(place): number for number, place in enumerate(there)}
        inside = (
            relevant
            if whole
            else [np.array([of[each] for each in places if each in of], np.int64) for places in relevant]
        )
        vectors_ND = corpus.vectors if whole else corpus.vectors[there]
        depth = max(DEPTH, _cut(task))
        order = order_N[there]
        places_QK, scores_QK = rank_all(vectors_QD, vectors_ND, depth, relevant=inside, order_N=order, states=states)
        ranked = zip(there[places_QK], scores_QK, strict=True)
    named = {
        place: (tuple(corpus_ids[each] for each in places), tuple(map(float, scores)))
        for place, (places, scores) in zip(asked, ranked, strict=True)
    }
    return {place: named.get(place, ((), ())) for place in range(len(query_ids))}


def _places(ids: Iterable[str], place_of: dict[str, int]) -> Ints:
    return np.array([place_of[each] for each in ids], np.int64)


def _chance(task: Task, query_ids: Sequence[str], corpus: int) -> float | None:
    found = [
        metrics.chance(
            task.metric, corpus if task.candidates is None else len(task.candidates[query]), task.relevant[query]
        )
        for query in query_ids
    ]
    known = [each for each in found if each is not None]
    return math.fsum(known) / len(known) if known else None


def _warnings(task: Task, score: float, lucky: float | None, queries: Embedded, corpus: Embedded) -> tuple[str, ...]:
    found = []
    for what, side in (("queries", queries), ("candidates", corpus)):
        if side.missing:
            example = next(iter(side.missing.values()))
            found.append(f"{len(side.missing)} {what} could not be embedded and count as misses, such as {example}")
    if lucky is not None:
        spread = math.sqrt(max(lucky * (1 - lucky), 0.0) / len(task.queries))
        if score <= lucky + _DEVIATIONS * spread:
            found.append(
                f"{task.metric} {score:.4f} is chance ({lucky:.4f}): are all weights loaded, is the prompt right?"
            )
    return tuple(found)
