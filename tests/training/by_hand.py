"""The training loss written out plainly, for a whole batch at once: what the cached one must equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from btoks import condensation
from btoks.bottleneck import record
from items import clip, features, picture

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Item = dict[str, Any]

QUERIES: list[Item] = [
    {"text": "what is in the garden?", "image": picture(1)},
    {"text": "who reads the book"},
    {"image": picture(2, 120, 50), "text": "Find a caption."},
    {"text": "a long question that says a few things more than the others do.", "image": [picture(3), picture(4)]},
    {"video": clip(5), "text": "who"},
]
POSITIVES: list[Item] = [
    {"text": "a red bus."},
    {"text": "two people, in the garden of the house"},
    {"text": "fox\n"},
    {"image": picture(6)},
    {"image": picture(7), "text": "the station"},
]
NEGATIVES: list[Item] = [{"text": f"nothing number {place}"} for place in range(5)]


def plain(items: list[Item]) -> list[Item]:
    """The items without their visuals, those of visuals alone with an empty text."""
    return [{"text": item.get("text", "")} for item in items]


def spoken(model: SentenceTransformer, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prefix, text and suffix of each item; nothing where it has no text."""
    notes, rows = record(model), []
    for item in items:
        text = (item.get("text") or "").strip()
        prefix, said = (model.tokenizer(each).input_ids for each in (notes["prefix"], text + notes["suffix"]))
        rows.append((prefix + said, [0] * len(prefix) + [1] * len(said)) if text else ([], []))
    pad = [torch.nn.utils.rnn.pad_sequence([torch.tensor(row[i]) for row in rows], batch_first=True) for i in (0, 1)]
    return pad[0].long(), pad[1].bool()


def by_hand(
    model: SentenceTransformer,
    queries: list[Item],
    positives: list[Item],
    negatives: tuple[list[Item], ...] = (),
    *,
    weight: float = 5.0,
    side: str = "positive",
    temperature: Any = 0.02,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE plus λ times the mean generation loss. `same` tells which documents are no negatives of a row."""
    embeddings, generation = [], torch.zeros(())
    for place, items in enumerate((queries, positives, *negatives)):
        embedding, held = condensation.memory(model, features(model, *items))
        embeddings.append(embedding)
        if (place, side) in {(0, "positive"), (1, "query"), (0, "both"), (1, "both")}:
            target = spoken(model, positives if place == 0 else queries)
            generation = generation + condensation.generation_loss(model, held, *target).sum() / len(queries)
    scores = embeddings[0] @ torch.cat(embeddings[1:]).T / temperature
    if same is not None:
        scores = scores.masked_fill(same & ~torch.eye(len(queries), scores.shape[1], dtype=torch.bool), -torch.inf)
    contrastive = -torch.log_softmax(scores, dim=1).diagonal().mean()
    return contrastive + weight * generation


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradients there are, which are then gone from the model."""
    out = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return out


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], within: float) -> None:
    """max|a−b| ≤ within · max|b| in every tensor; one that only one side has is zero."""
    for name in found.keys() | wanted.keys():
        a, b = (each.get(name, torch.zeros(())).double() for each in (found, wanted))
        # Far below its largest gradient a model's others are rounding: some are exactly 0 by nature.
        floor = 1e-9 * max(each.abs().max().item() for each in wanted.values())
        assert (a - b).abs().max() <= within * b.abs().max() + floor, name
