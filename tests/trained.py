"""Models trained on the spot: a tiny backbone, pairs of texts, some dozens of steps of the training loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import tiny
from btoks import attach
from btoks.training.loss import CondensationLoss
from items import features, streamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

Pair = tuple[str, str]


def trained(
    pairs: Sequence[Pair],
    steps: int,
    *,
    batch: int = 16,
    lr: float = 3e-3,
    seed: int = 0,
    tie: bool = False,
    **options: Any,
) -> SentenceTransformer:
    """A tiny language model trained on pairs of texts; options of `attach` and of the loss."""
    ours = {key: options.pop(key) for key in ("tokens", "pooling") if key in options}
    model = attach(tiny.backbone("qwen3", seed=seed, tie=tie), **ours)
    loss = CondensationLoss(model, temperature=0.05, mini_batch_size=batch, **options)
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    luck = np.random.default_rng(seed)
    model.train()
    for step in range(steps):
        loss.step = step
        chosen = [pairs[place] for place in luck.choice(len(pairs), batch, replace=False)]
        columns = [features(model, *({"text": pair[side]} for pair in chosen)) for side in (0, 1)]
        labels = torch.tensor([hash(pair[1]) for pair in chosen])
        optimizer.zero_grad()
        loss(columns, labels).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return model.eval()


def hit(model: SentenceTransformer, pairs: Sequence[Pair]) -> float:
    """How often a query's own document comes first among the distinct ones."""
    documents = list(dict.fromkeys(other for _, other in pairs))
    queries_QD, documents_ND = (streamed(model, texts) for texts in ([one for one, _ in pairs], documents))
    best = (queries_QD @ documents_ND.T).argmax(axis=1)
    return float(np.mean([documents[place] == other for place, (_, other) in zip(best, pairs, strict=True)]))
