"""How embeddings are compared: by their cosine, or by MaxSim where one holds several vectors side by side.

Shape suffixes: Q queries, N documents, S vectors of an embedding, D their width, E = S·D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


def states_of(modules: Iterable[nn.Module]) -> int:
    """How many vectors an embedding of a model holds; 1 unless its pooling keeps the states apart."""
    return max(int(getattr(module, "states", 1)) for module in modules)


def maxsim(queries_QE: Tensor, documents_NE: Tensor, states: int) -> Tensor:
    """The mean over a query's vectors of their best cosine with any of the document's (Q, N), in [-1, 1].

    Cost: 2·S²·Q·N·D operations, S times those of a cosine of vectors as wide as all S together.

    >>> import torch
    >>> maxsim(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]]), 2)
    tensor([[1.]])
    """
    import torch

    queries_SQD, documents_SND = (
        torch.nn.functional.normalize(each.unflatten(1, (states, -1)), dim=2).unbind(1)
        for each in (queries_QE, documents_NE)
    )
    best = [torch.stack([own @ other.T for other in documents_SND]).amax(0) for own in queries_SQD]
    return torch.stack(best).mean(0)


def similarity(model: Iterable[nn.Module], queries_QE: Tensor, documents_NE: Tensor) -> Tensor:
    """How alike the embeddings of a model are (Q, N).

    >>> similarity(model, *map(torch.from_numpy, (queries, documents)))  # doctest: +SKIP
    tensor([[0.73, 0.11]])
    """
    return maxsim(queries_QE, documents_NE, states_of(model))
