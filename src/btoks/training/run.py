"""`train`: a recipe from its data to a model folder, going on where a killed run stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.state import PartialState

from btoks.errors import BtoksError
from btoks.folder import save
from btoks.training import state
from btoks.training.build import build
from btoks.training.data import Collator, Mixture
from btoks.training.loss import CondensationLoss
from btoks.training.recipe import Recipe, check, opened
from btoks.training.sampler import Plan
from btoks.training.trainer import RecipeTrainer, remove
from btoks.training.watch import Watch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FREE = {"save_every", "workers", "report_to", "data", "chunk", "keep"}
"""Fields that may differ when a run goes on: nothing that is learnt depends on them."""


def train(recipe: Recipe, *, out: str | Path, restart: bool = False) -> Path:
    """Train by the recipe and return the folder of the model, `out/model`.

    A run that was killed goes on from its last checkpoint; `restart` begins anew. KeyboardInterrupt after a Ctrl-C,
    when all is saved.

    >>> train(opened("mini", steps=100), out="runs/mini")  # doctest: +SKIP
    """
    check(recipe)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and os.environ.get("FSDP_VERSION", "1") != "2":
        raise BtoksError(
            "FSDP", "version 1 keeps no whole parameters", "set fsdp_version: 2 in accelerate's configuration"
        )
    out = Path(out)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        _claim(recipe, out, restart=restart)
    result = out / "model"
    if result.is_dir():
        return result
    mixture = Mixture(recipe.sets, recipe.folder)
    dev = Mixture(recipe.dev, recipe.folder) if recipe.dev else None
    start = train(opened(recipe.start), out=out / "start") if recipe.start else None
    trainer = _trainer(recipe, out, build(recipe, start), mixture)
    watch = Watch(trainer, dev)
    _only(trainer, watch)
    try:
        trainer.train(resume_from_checkpoint=_newest(out))
    finally:
        watch.close()
    if watch.interrupted:
        raise KeyboardInterrupt
    return _finished(trainer, start, result)


def plan_of(recipe: Recipe, mixture: Mixture) -> Plan:
    """The order of the recipe's batches."""
    sets = recipe.sets
    return Plan(
        lengths=mixture.lengths,
        weights=tuple(each.weight for each in sets),
        shuffled=tuple(each.shuffle for each in sets),
        batch=recipe.batch,
        block=recipe.block,
        steps=recipe.steps,
        stop=recipe.stop,
        seed=recipe.seed,
    )


def _trainer(recipe: Recipe, out: Path, model: SentenceTransformer, mixture: Mixture) -> RecipeTrainer:
    losses = {
        each.name: CondensationLoss(
            model,
            weight=recipe.weight,
            weight_steps=recipe.weight_steps,
            side=each.side,
            mask=recipe.mask,
            temperature=recipe.temperature,
            learn_temperature=recipe.learn_temperature,
            longest_target=recipe.longest_target,
            mini_batch_size=recipe.chunk,
            keep=recipe.keep,
            gather_across_devices=True,
        )
        for each in recipe.sets
    }
    return RecipeTrainer(recipe, out, model, losses, mixture, plan_of(recipe, mixture), Collator(model, recipe.sets))


def _only(trainer: RecipeTrainer, watch: Watch) -> None:
    """Our watch instead of the bars, prints and model cards that trainers bring along."""
    from sentence_transformers.base.model_card import BaseModelCardCallback
    from transformers import PrinterCallback, ProgressCallback

    for noisy in (PrinterCallback, ProgressCallback, BaseModelCardCallback):
        trainer.remove_callback(noisy)
    trainer.add_callback(watch)


def _finished(trainer: RecipeTrainer, start: Path | None, result: Path) -> Path:
    """The best state, or else the last one, as a model folder."""
    best = trainer.out / "best"
    learnt = trainer.trained()
    if best.is_dir():
        state.read(best, learnt)
    spread = any(hasattr(each, "device_mesh") for each in learnt.values())
    tensors = state.whole(learnt) if spread else {}
    if trainer.is_world_process_zero():
        model: Any = trainer.model
        if spread:
            model = build(trainer.recipe, start)
            for name, weight in state.trained(model, {}).items():
                weight.data.copy_(tensors[name])
        save(model.eval(), result)
    return result


def _newest(out: Path) -> str | None:
    steps = sorted(int(each.name.rpartition("-")[2]) for each in out.glob("checkpoint-*"))
    return str(out / f"checkpoint-{steps[-1]}") if steps else None


def _claim(recipe: Recipe, out: Path, *, restart: bool) -> None:
    """Make the folder this recipe's, or refuse one that is another's."""
    file = out / "recipe.json"
    if out.is_dir() and not file.is_file() and any(out.iterdir()):
        raise BtoksError(str(out), "it is no run of ours and not empty", "choose another folder")
    if restart and file.is_file() and PartialState().is_main_process:
        remove(out)
    ours = {key: _written(value) for key, value in vars(recipe).items()}
    if file.is_file():
        theirs = json.loads(file.read_text(encoding="utf-8"))
        differ = sorted(key for key in ours.keys() - _FREE if theirs.get(key) != ours[key])
        if differ:
            reason = f"it holds a run with other {', '.join(differ)}"
            raise BtoksError(str(out), reason, "use --restart to begin anew, or choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    part = file.with_name(".recipe.json.part")
    part.write_text(json.dumps(ours, indent=1), encoding="utf-8")
    part.replace(file)


def _written(value: Any) -> Any:
    """A field as JSON: rows given in memory by their digest, functions by their name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {field.name: _written(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **named}
    if isinstance(value, tuple | list):
        items = [_written(each) for each in value]
        return items if len(items) <= 100 else hashlib.blake2b(json.dumps(items).encode(), digest_size=8).hexdigest()
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value if isinstance(value, str | int | float | None) else str(value)
