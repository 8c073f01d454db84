"""Small runs for the tests of training: what they write, and how they are started as commands."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

import btoks
from btoks.bottleneck import generator
from btoks.training import Lora, train
from btoks.training.watch import Watch
from training import records

if TYPE_CHECKING:
    from pathlib import Path


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[tuple[Any, ...]]:
    return [tuple(line[key] for key in ("step", "loss", "loss_con", "loss_gen", "dataset")) for line in metrics(out)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return generator(btoks.load(out / "model", device="cpu")).state_dict()


def same_weights(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def adapted(data: Path, **changed: Any) -> Any:
    """A run with dropout: its random state matters."""
    return records.recipe(data, **{"lora": Lora(rank=4, dropout=0.3), "save_every": 2, **changed})


def script(file: Path, made: str) -> Path:
    """A recipe file that returns what an expression gives."""
    names = (
        "from pathlib import Path\nfrom training.records import recipe as small\nfrom training.runs import adapted\n"
    )
    file.write_text(f"{names}def recipe():\n    return {made}\n", encoding="utf-8")
    return file


def environment() -> dict[str, str]:
    """For a command of its own that finds the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def train_to(recipe: Any, out: Path, step: int) -> None:
    """Train and stop after a step, as an interrupt would."""
    before = Watch.on_step_end

    def stopping(self: Watch, args: Any, state: Any, control: Any, **rest: Any) -> Any:
        self.interrupted = state.global_step >= step
        return before(self, args, state, control, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_step_end", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out)
