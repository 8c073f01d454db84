"""The parts of `train.py` about data and memory: padding in chunks, waiting for batches, the peak of a step."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encode import WORDS, corpus, of_length
from PIL import Image

from btoks import attach
from btoks.inputs import fit
from btoks.training.chunks import cut, longest_first
from btoks.training.data import Collator, Mixture, Set
from btoks.training.loss import CondensationLoss
from btoks.training.readers import Records
from btoks.training.recipe import Recipe
from btoks.training.run import plan_of
from btoks.training.scratch import Size, backbone
from btoks.training.targets import Targets
from btoks.training.trainer import RecipeTrainer

Rows = list[dict[str, Any]]
SIGHT = Size(vocabulary=2048, hidden=256, layers=4, feed=768, vision_hidden=256, vision_layers=4, visual_tokens=64)


def picture(rng: np.random.Generator, height: int = 256, width: int = 256) -> Image.Image:
    """Noise."""
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def padding(batch: int = 128, size: int = 8) -> Rows:
    """The share of a chunk's places that hold nothing, batches and chunks as large as the recipes have them."""
    model = attach(backbone([" ".join(WORDS)], SIGHT), tokens=4)
    items, targets = [fit(model, item) for item in corpus(4 * batch, seed=0)], Targets(model, 512)
    ways = {"as they come": np.zeros(5), "sorted and cut": np.zeros(5)}
    for begin in range(0, len(items), batch):
        features = model.preprocess(items[begin : begin + batch])
        said = (targets(features)[1] * torch.arange(1, targets(features)[1].shape[1] + 1)).amax(dim=1)
        lengths = torch.stack([features["attention_mask"].sum(dim=1), said], dim=1)
        ranges = [(first, first + size) for first in range(0, batch, size)]
        ordered = lengths[longest_first(lengths)]
        for way, rows, chunks in (
            ("as they come", lengths, ranges),
            ("sorted and cut", ordered, cut(ordered, ranges)),
        ):
            for first, last in chunks:
                places = (last - first) * rows[first:last].amax(dim=0)
                ways[way] += [*rows[first:last].sum(dim=0).tolist(), *places.tolist(), 1]
    out = []
    for way, (inputs, told, input_places, told_places, chunks) in ways.items():
        waste = 100 * (1 - inputs / input_places)
        row = {"rows": way, "inputs %": waste, "targets %": 100 * (1 - told / told_places), "chunks": int(chunks)}
        out.append({**row, "places": int(input_places + told_places), "within": bool(waste <= 10)})
    return out


def loading(batch: int = 32, batches: int = 10) -> Rows:
    """Train on JPEG files of 640 × 480 through the trainer's own loader, and time the waiting."""
    model = attach(backbone([" ".join(WORDS)], SIGHT), tokens=4).train()
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        folder.mkdir()
        for place in range(64):
            picture(rng, 480, 640).save(folder / f"{place}.jpg")
        lines = [
            {"id": str(place), "split": "train", "query": {"text": " ".join(rng.choice(WORDS, 12))}}
            | {"positives": [{"image": f"{place}.jpg"}]}
            for place in range(64)
        ]
        (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        sets = (Set("photos", Records("photos"), side="query"),)
        for workers in (1, 2):
            recipe = Recipe("loading", sets, "-", data=Path(name), steps=batches, batch=batch, workers=workers)
            rows.append({"workers": workers, **busy(recipe, model)})
    return rows


def busy(recipe: Recipe, model: Any) -> dict[str, Any]:
    """How much of the time goes into steps, from the second batch on: the first one starts the workers."""
    mixture = Mixture(recipe.sets, recipe.folder)
    losses = {each.name: CondensationLoss(model, side=each.side, mini_batch_size=recipe.chunk) for each in recipe.sets}
    plan, collator = plan_of(recipe, mixture), Collator(model, recipe.sets)
    with tempfile.TemporaryDirectory() as out:
        trainer = RecipeTrainer(recipe, Path(out), model, losses, mixture, plan, collator)
        waited, worked, last = [], [], time.perf_counter()
        for inputs in trainer.get_train_dataloader():
            began = time.perf_counter()
            waited.append(began - last)
            trainer.compute_loss(model, inputs).backward()
            model.zero_grad()
            last = time.perf_counter()
            worked.append(last - began)
    share = sum(worked[1:]) / (sum(worked[1:]) + sum(waited[1:]))
    pictures = recipe.batch * len(worked[1:]) / (sum(worked[1:]) + sum(waited[1:]))
    return {"busy %": 100 * share, "pictures a second": pictures, "within": share >= 0.95}


def memory() -> Rows:
    """Peak memory of a fresh process for one step, at two budgets, as the batch grows eightfold."""
    rows = []
    for keep in (0, 256):
        peaks = [child(batch, keep) for batch in (16, 128)]
        budget = 1.05 * peaks[0] if not keep else rows[0]["batch 128 MiB"] + keep
        row = {"keep MiB": keep, "batch 16 MiB": peaks[0], "batch 128 MiB": peaks[1], "budget MiB": budget}
        rows.append({**row, "within": peaks[1] <= budget})
    return rows


def child(batch: int, keep: int) -> float:
    """What a process of its own measures."""
    command = [sys.executable, __file__, str(batch), str(keep)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_of_a_step(batch: int, keep: int) -> float:
    """Steps on rows of 256 tokens in chunks of 8: the most memory this process ever held, in MiB."""
    import resource

    small = Size(vocabulary=1024, hidden=192, layers=3, heads=4, feed=512, vision_hidden=32, vision_layers=1)
    model = attach(backbone([" ".join(WORDS)], small), tokens=4).train()
    one, said = of_length(model, 256), of_length(model, 32)
    columns = [{key: torch.cat([value] * batch) for key, value in each.items() if isinstance(value, torch.Tensor)}
               for each in (one, said)]  # fmt: skip
    loss = CondensationLoss(model, mini_batch_size=8, keep=keep << 20)
    for _ in range(2):
        loss(columns).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(peak_of_a_step(*map(int, sys.argv[1:])))
