"""A quick search of dev sets while a model trains: how often a query's own positive comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.encode import encode_stream
from btoks.evaluation import metrics
from btoks.evaluation.ranking import rank_all
from btoks.similarity import states_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.training.data import Mixture


def search(model: SentenceTransformer, dev: Mixture, rows: int) -> dict[str, float]:
    """Hit@1 of each data set's first rows among their distinct positives; equal documents count as one.

    Ranked and scored by the benchmark's own code; every device does the same, as models spread over devices need it.

    >>> search(model, Mixture(recipe.dev, folder), 200)  # doctest: +SKIP
    {'flags': 0.31}
    """
    training = model.training
    model.eval()
    try:
        return {each.name: _hit(model, dev, place, rows) for place, each in enumerate(dev.sets)}
    finally:
        model.train(training)


def _hit(model: SentenceTransformer, dev: Mixture, place: int, rows: int) -> float:
    from btoks.training.sampler import Place

    chosen = dev.sets[place]
    opened = [dev[Place(place, number, 0)] for number in range(min(rows, dev.lengths[place]))]
    documents = {each["hashes"][0]: each["items"]["positive"] for each in opened}
    queries_ND = _embedded(model, [each["items"]["query"] for each in opened], chosen.instruction)
    documents_MD = _embedded(model, list(documents.values()), chosen.document_instruction)
    names = list(map(str, documents))
    right = [str(each["hashes"][0]) for each in opened]
    places = [np.array([names.index(name)]) for name in right]
    ranked_NK, _ = rank_all(queries_ND, documents_MD, 1, relevant=places, states=states_of(model))
    found = [
        metrics.score([names[place] for place in row_K], {name: 1.0}, ks=(1,))
        for row_K, name in zip(ranked_NK, right, strict=True)
    ]
    return metrics.mean(found)["hit@1"]


def _embedded(model: SentenceTransformer, items: list[Any], prompt: str | None) -> Any:
    return np.stack([out.embedding for out in encode_stream(model, items, prompt=prompt) if out.embedding is not None])
