"""InfoNCE of queries against all documents, by rows, with what a pooling may ask of it.

Shape suffixes: B batch, C rows at a time, N documents of all columns and devices, E embedding width.

A pooling module that trains several embeddings of an item at once has `views`, their number, and writes them side by
side into the features as `views`: each is compared with its like, the loss is the mean over them, and generation takes
turns, a step each, from the first 1, 2, … of as many bottleneck tokens. One whose embeddings hold several vectors has
`states`, their number: they are compared by MaxSim. One with `speaks` writes a loss of its own for each sample into the
features as `generation`, in the place of that of telling the other side's text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.util import cos_sim

from btoks.similarity import maxsim, states_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Compare = Callable[["Tensor", "Tensor"], "list[Tensor]"]
"""Similarities (C, N) of each view."""


def views_of(modules: Iterable[nn.Module]) -> int:
    """How many embeddings of an item a model trains at once."""
    return max(int(getattr(module, "views", 1)) for module in modules)


def representation(out: Mapping[str, Any]) -> Tensor:
    """What the loss needs of a pass: embeddings, or every view of them, and each sample's generation loss (B, E+1)."""
    compared_BE: Tensor = out.get("views", out["sentence_embedding"])
    told_B = out["generation"] if "generation" in out else compared_BE.new_zeros(len(compared_BE))
    return torch.cat([compared_BE, told_B[:, None]], dim=1)


def comparison(modules: Iterable[nn.Module]) -> Compare:
    """How the representations of a model are compared while it trains."""
    modules = list(modules)
    views, states = views_of(modules), states_of(modules)

    def compare(queries_CE: Tensor, documents_NE: Tensor) -> list[Tensor]:
        sides = zip(queries_CE.chunk(views, dim=1), documents_NE.chunk(views, dim=1), strict=True)
        return [cos_sim(*side) if states == 1 else maxsim(*side, states) for side in sides]

    return compare


def info_nce(scores: list[Tensor], own_C: Tensor, right_C: Tensor, same_CN: Tensor | None, size: int) -> Tensor:
    """The share of some rows in the loss of `size` rows, mean over the views.

    `own_C` counts the rows from 0, `right_C` are their positives' places, `same_CN` tells which documents are equal
    to a row's positive and do not count as its negatives.
    """
    losses = []
    for scores_CN in scores:
        counted_CN = scores_CN if same_CN is None else scores_CN.masked_fill(same_CN, -torch.inf)
        losses.append(-(counted_CN[own_C, right_C] - torch.logsumexp(counted_CN, dim=1)).mean())
    total = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
    return total * len(own_C) / size
