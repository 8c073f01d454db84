"""Quality against bottleneck tokens, fixed or by item: `adaptive.py MODEL … --out runs/adaptive`.

A model trained with pooling "prefixes" embeds the mini benchmark once, all K states of every item. Then for each m:

    fixed       the first m tokens of every item
    by change   as many as its embedding needs, at the tolerance at which the candidates need m on average
    told        the loss of telling a text from m tokens: fixed, and by item at the tolerance that needs m on average

Prints hit@1 (mean over the data sets) and bytes of memory an item; writes adaptive.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from btoks import adaptive, condensation, load, methods
from btoks.bottleneck import generator, record
from btoks.bundled import benchmark
from btoks.evaluation.encoding import Embedded, Encoder
from btoks.evaluation.records import tasks
from btoks.evaluation.run import evaluate_task
from btoks.training.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEXTS, BATCH, LONGEST = 400, 50, 32


class Held:
    """The states of every side of every task, embedded once; a rule says how many of them count."""

    def __init__(self, encoder: Encoder, tokens: int) -> None:
        self.encoder, self.tokens = encoder, tokens
        self.sides: dict[tuple[str, str], Any] = {}
        self.rule: Callable[[torch.Tensor], torch.Tensor] = lambda loss_BK: adaptive.smallest(loss_BK, 0.0)

    def side(self, task: str, side: Any, entries: Sequence[Any]) -> Embedded:
        """The embeddings of a side by the rule."""
        if (task, side) not in self.sides:
            found = self.encoder.side(task, side, entries)
            states_BKD = torch.from_numpy(found.vectors).unflatten(1, (self.tokens, -1))
            self.sides[task, side] = adaptive.means(states_BKD), found
        means_BKD, found = self.sides[task, side]
        kept_B = self.rule(adaptive.changes(means_BKD))
        vectors_BD = means_BKD[torch.arange(len(kept_B)), kept_B - 1]
        return Embedded(torch.nn.functional.normalize(vectors_BD, dim=1).numpy(), found.missing, found.prompt)

    def changes(self) -> torch.Tensor:
        """How much fewer tokens change every candidate."""
        held = [means_BKD for (_, side), (means_BKD, _) in self.sides.items() if side == "document"]
        return torch.cat([adaptive.changes(each) for each in held])


def tolerance(loss_BK: torch.Tensor, tokens: float) -> float:
    """The smallest tolerance at which no more tokens than these are needed on average."""
    differences = torch.unique(loss_BK - loss_BK[:, -1:]).clamp(min=0)
    low, high = 0, len(differences) - 1
    while low < high:
        middle = (low + high) // 2
        enough = adaptive.smallest(loss_BK, float(differences[middle])).float().mean() <= tokens
        low, high = (low, middle) if enough else (middle + 1, high)
    return float(differences[low])


def hits(held: Held, chosen: Sequence[Any]) -> float:
    """hit@1, mean over the data sets."""
    return float(np.mean([evaluate_task(held, task).metrics["hit@1"] for task in chosen]))


def losses(model: Any, chosen: Sequence[Any]) -> torch.Tensor:
    """The loss of telling the candidates' own texts from each first k tokens."""
    texts = sorted({entry.text for task in chosen for entry in task.corpus if entry.text and entry.image is None})
    texts = texts[:: max(1, len(texts) // TEXTS)]
    said, found = Targets(model, LONGEST), []
    for begin in range(0, len(texts), BATCH):
        features = model.preprocess([{"text": text} for text in texts[begin : begin + BATCH]])
        found.append(adaptive.generation_losses(model, features, *said(features)))
    return torch.cat(found)


@torch.no_grad()
def measured(folder: Path) -> list[dict[str, Any]]:
    """A row for every number of tokens."""
    model, chosen = load(folder), tasks(benchmark())
    tokens, config = int(record(model)["tokens"]), generator(model).config
    told_BK = losses(model, chosen)
    rows = []
    with methods.apply(model, methods.create("pooling", "concat")), Encoder(model) as encoder:
        held = Held(encoder, tokens)
        whole = hits(held, chosen)
        changes_BK = held.changes()
        for m in range(1, tokens + 1):
            allowed, told = tolerance(changes_BK, m), tolerance(told_BK, m)
            held.rule = lambda loss_BK, m=m: torch.full((len(loss_BK),), m)
            fixed = whole if m == tokens else hits(held, chosen)
            held.rule = lambda loss_BK, allowed=allowed: adaptive.smallest(loss_BK, allowed)
            kept_B, own_B = adaptive.smallest(changes_BK, allowed), adaptive.smallest(told_BK, told)
            row = {"model": folder.name, "tokens": m, "fixed": fixed, "by_change": hits(held, chosen)}
            row |= {"mean_tokens": float(kept_B.float().mean()), "tolerance": allowed}
            row |= {"bytes": condensation.nbytes(config, m, 1, generator(model).dtype.itemsize)}
            row |= {"loss": float(told_BK[:, m - 1].mean()), "mean_told": float(own_B.float().mean())}
            row |= {"loss_by_item": float(told_BK.gather(1, own_B[:, None] - 1).mean())}
            rows.append(row)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders of models trained with pooling prefixes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    asked = parser.parse_args()
    rows = [row for folder in asked.models for row in measured(folder)]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "adaptive.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("| model | tokens | bytes | hit@1 fixed | hit@1 by change | loss fixed | loss by item |")
    print("|---" * 7 + "|")
    for row in rows:
        hit = " | ".join(f"{100 * row[name]:.1f}" for name in ("fixed", "by_change"))
        loss = " | ".join(f"{row[name]:.3f}" for name in ("loss", "loss_by_item"))
        print(f"| {row['model']} | {row['tokens']} | {row['bytes']:,} | {hit} | {loss} |")


if __name__ == "__main__":
    main()
