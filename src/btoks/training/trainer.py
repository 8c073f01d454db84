"""sentence-transformers' trainer on a recipe: batches by plan, whole checkpoints, a stop at the first bad number.

A run's folder:

    recipe.json      what the run was started with      metrics.jsonl    a line a step
    checkpoint-N/    the newest state, whole            dev.jsonl        a line for every search of the dev sets
    best/            the best state on the dev sets     model/           the result, once there is one
"""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.state import PartialState
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import DataLoader, Dataset

from btoks.errors import BtoksError
from btoks.folder import replacing
from btoks.training import state
from btoks.training.data import calm
from btoks.training.sampler import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentence_transformers import SentenceTransformer

    from btoks.training.data import Mixture
    from btoks.training.recipe import Recipe
    from btoks.training.sampler import Place, Plan

_SHOWN = 8


class RecipeTrainer(SentenceTransformerTrainer):
    """The trainer of one run."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        model: SentenceTransformer,
        losses: dict[str, Any],
        mixture: Mixture,
        plan: Plan,
        collator: Any,
    ) -> None:
        self.recipe, self.out, self.plan, self.mixture = recipe, out, plan, mixture
        self._writes_to = out
        self.seen: dict[str, Any] = {}
        super().__init__(model=model, args=_arguments(recipe, out, plan.count()), loss=losses, data_collator=collator)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The recipe's batches, this device's share of each."""
        workers, guarded = self.recipe.workers, _Guarded(self.mixture, self.data_collator)
        return DataLoader(
            guarded,
            batch_sampler=Share(self.plan, self.args.process_index, self.args.world_size),
            collate_fn=guarded.collate,
            num_workers=workers,
            worker_init_fn=calm,
            prefetch_factor=2 if workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch, which is looked at before anything learns from it."""
        if "error" in inputs:
            raise BtoksError(*inputs["error"])
        rows, broken, name = inputs.pop("rows"), inputs.pop("broken"), inputs["dataset_name"]
        loss_of: Any = self.loss[name]
        loss_of.step = self.state.global_step
        tokens = sum(int(value.sum()) for key, value in inputs.items() if key.endswith("attention_mask"))
        loss: Any = super().compute_loss(model, inputs, *args, **kwargs)
        self.seen = {"dataset": name, "rows": rows, "broken": broken, "tokens": tokens, "parts": loss_of.last}
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self.failure("loss", value)
        return loss

    def failure(self, what: str, value: float) -> BtoksError:
        """The error of a bad number; the whole batch stands in `failed.json`."""
        step, name, rows = self.state.global_step + 1, self.seen["dataset"], self.seen["rows"]
        file = self.out / "failed.json"
        file.write_text(json.dumps({"step": step, "what": what, "dataset": name, "rows": rows}), encoding="utf-8")
        shown = ", ".join(rows[:_SHOWN]) + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")
        return BtoksError(
            f"step {step}", f"the {what} is {value} on {name}, rows {shown} ({file})", "lower lr, or mend the rows"
        )

    def _clip_grad_norm(self, model: Any) -> Any:
        accelerator: Any = self.accelerator
        norm = accelerator.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not math.isfinite(float(norm)):
            raise self.failure("gradient norm", float(norm))
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The step's numbers with the loss's parts, for our files and for the trackers."""
        if "loss" in logs:
            parts = self.seen["parts"]
            logs = {**logs, "loss_con": self._mean(parts.contrastive)}
            if parts.generation is not None:
                logs["loss_gen"] = self._mean(parts.generation)
        super().log(logs, start_time)

    def _mean(self, value: torch.Tensor) -> float:
        """Over all devices, which all have the part or all lack it: they share the data set and the step."""
        accelerator: Any = self.accelerator
        return float(accelerator.reduce(value, "mean"))

    def _get_output_dir(self, trial: Any = None) -> str:
        del trial
        return str(self._writes_to)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint beside, moved into place when it is whole; then the older ones go."""
        place = self.out / f"checkpoint-{self.state.global_step}"
        with self._beside() as part:
            super()._save_checkpoint(model, trial)
            self._meet()
            if self.is_world_process_zero():
                remove(place)
                (part / place.name).rename(place)
        self._meet()
        if self.is_world_process_zero():
            for other in self.out.glob("checkpoint-*"):
                if other != place:
                    remove(other)

    def _meet(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()

    @contextmanager
    def _beside(self) -> Iterator[Path]:
        self._writes_to = self.out / ".saving"
        try:
            yield self._writes_to
        finally:
            self._writes_to = self.out
            if self.is_world_process_zero():
                shutil.rmtree(self.out / ".saving", ignore_errors=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """What trains, and nothing else: the rest is made again from the recipe."""
        tensors = state.whole(self.trained())
        if self.is_world_process_zero():
            state.write(Path(output_dir or self.out), tensors)

    def _load_from_checkpoint(self, checkpoint_path: str, *_: Any) -> None:
        state.read(Path(checkpoint_path), self.trained())

    def keep_best(self, step: int, score: float) -> None:
        """Keep this state if no dev search has gone better."""
        best = self.out / "best"
        held = json.loads((best / "score.json").read_text(encoding="utf-8"))["score"] if best.is_dir() else -1.0
        tensors = state.whole(self.trained()) if score > held else {}
        self._meet()
        if tensors and self.is_world_process_zero():
            with replacing(best) as part:
                state.write(part, tensors)
                (part / "score.json").write_text(json.dumps({"step": step, "score": score}), encoding="utf-8")

    def trained(self) -> dict[str, torch.Tensor]:
        """The tensors that train."""
        losses: Any = self.loss
        return state.trained(self.model, losses)


class _Guarded(Dataset[dict[str, Any]]):
    """Brings an error home as it is: the loader would wrap a worker's in a traceback of its own."""

    def __init__(self, mixture: Mixture, collate: Callable[[list[Any]], dict[str, Any]]) -> None:
        self.mixture, self._collate = mixture, collate

    def __getitem__(self, place: Place) -> dict[str, Any]:
        try:
            return self.mixture[place]
        except BtoksError as error:
            return {"error": error.args}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        for sample in samples:
            if "error" in sample:
                return sample
        try:
            return self._collate(samples)
        except BtoksError as error:
            return {"error": error.args}


def remove(folder: Path) -> None:
    """Take a folder away at once, then delete it: half a checkpoint is none."""
    if folder.exists():
        gone = folder.with_name(f".gone-{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _arguments(recipe: Recipe, out: Path, steps: int) -> SentenceTransformerTrainingArguments:
    devices: int = getattr(PartialState(), "num_processes")  # noqa: B009 - set where mypy cannot see it
    return SentenceTransformerTrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=max(recipe.batch // devices, 1),
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        seed=recipe.seed,
        save_strategy="steps",
        save_steps=recipe.save_every,
        logging_strategy="steps",
        logging_steps=1,
        report_to=list(recipe.report_to) or "none",
        disable_tqdm=True,
        ddp_find_unused_parameters=True,  # texts alone leave the vision tower out, some columns the language-model head
        dataloader_num_workers=recipe.workers,
        use_cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
    )
