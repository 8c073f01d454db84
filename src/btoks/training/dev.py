"""A quick search of dev sets while a model trains: how often a query's own positive comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.encode import encode_stream

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.training.data import Mixture


def search(model: SentenceTransformer, dev: Mixture, rows: int) -> dict[str, float]:
    """Hit@1 of each data set's first rows among their distinct positives; equal documents count as one.

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
    found_N = (queries_ND @ documents_MD.T).argmax(axis=1)
    hashes = list(documents)
    return float(np.mean([hashes[found] == each["hashes"][0] for found, each in zip(found_N, opened, strict=True)]))


def _embedded(model: SentenceTransformer, items: list[Any], prompt: str | None) -> Any:
    return np.stack([out.embedding for out in encode_stream(model, items, prompt=prompt) if out.embedding is not None])
