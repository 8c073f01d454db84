"""How many bottleneck tokens an item needs: what is lost with fewer, by its embedding or by what is told from them.

Attention is causal, so the first k of K tokens hold what the tokens of a model with k of them would: one pass gives
every k. Shape suffixes: B batch, K bottleneck tokens, D width, T target tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from btoks.condensation import generation_loss, memory, remembering
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentence_transformers import SentenceTransformer

    from btoks.condensation import Memory


def means(states_BKD: Tensor) -> Tensor:
    """The embedding from each first k tokens, before it is normalised (B, K, D)."""
    return states_BKD.cumsum(dim=1) / torch.arange(1, states_BKD.shape[1] + 1, device=states_BKD.device)[:, None]


def changes(means_BKD: Tensor) -> Tensor:
    """How far the embedding from the first k tokens is from that of all: 1 less their cosine (B, K)."""
    return 1 - cosine_similarity(means_BKD, means_BKD[:, -1:], dim=2)


def smallest(loss_BK: Tensor, tolerance: float) -> Tensor:
    """The fewest tokens that lose no more than `tolerance` against all of them (B,).

    >>> smallest(torch.tensor([[0.5, 0.04, 0.0], [0.9, 0.6, 0.3]]), 0.05)
    tensor([2, 3])
    """
    enough_BK = loss_BK <= loss_BK[:, -1:] + tolerance
    return enough_BK.int().argmax(dim=1) + 1


def generation_losses(
    model: SentenceTransformer, features: Mapping[str, Any], target_ids_BT: Tensor, supervised_BT: Tensor
) -> Tensor:
    """The loss of telling a target from the first k tokens alone, for every k (B, K), from one pass over the input.

    With a document's own text for a target, `smallest` of it is how many tokens it takes to read the document back.
    """
    _, held = memory(model, features)
    tokens = held.keys_LBHKD.shape[3]
    parts = [generation_loss(model, held.first(k), target_ids_BT, supervised_BT) for k in range(1, tokens + 1)]
    return torch.stack(parts, dim=1)


def remembered(model: SentenceTransformer, features: Mapping[str, Any]) -> tuple[Tensor, list[Memory]]:
    """Embeddings, and a memory for each item of as many tokens as its pooling kept.

    >>> vectors, memories = remembered(model, model.preprocess([{"text": "a red fox"}]))  # doctest: +SKIP
    """
    with remembering(model, features) as (batch, held):
        out = model(batch)
    if "kept" not in out:
        raise BtoksError("model", "its pooling keeps the same number of tokens for all", "attach it with 'prefixes'")
    whole = held()
    return out["sentence_embedding"], [whole[[row]].first(k) for row, k in enumerate(out["kept"].tolist())]
