"""What goes on beside a run: its numbers in a file and on the screen, dev searches, and a clean end on Ctrl-C."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import torch
from transformers import TrainerCallback

from btoks.training.dev import search

if TYPE_CHECKING:
    from pathlib import Path

    from btoks.training.data import Mixture
    from btoks.training.trainer import RecipeTrainer

_LOG = logging.getLogger(__name__)
_EVERY = 10.0  # seconds between two plain lines


class Watch(TrainerCallback):
    """One line a step into `metrics.jsonl`, a bar or now and then a line on stderr, dev searches, Ctrl-C.

    The first Ctrl-C saves after the step under way and ends the run; a second one ends it at once.
    """

    def __init__(self, trainer: RecipeTrainer, dev: Mixture | None) -> None:
        self.trainer, self.dev = trainer, dev
        self.interrupted = False
        self.broken = 0
        self._began = time.monotonic()
        self._first = trainer.is_world_process_zero()
        self._metrics: TextIO | None = None
        self._screen: Any = None
        self._handler: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the files, drop what a killed run wrote after its checkpoint, listen for Ctrl-C."""
        del args, control
        if self._first:
            for name in ("metrics.jsonl", "dev.jsonl"):
                cut(self.trainer.out / name, state.global_step)
            self._metrics = (self.trainer.out / "metrics.jsonl").open("a", encoding="utf-8")
            self._screen = _Bar(state) if sys.stderr.isatty() else _Lines(state)
        self._began = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Stop all devices together if one was interrupted."""
        if args.world_size > 1:
            flag = torch.tensor(float(self.interrupted), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.interrupted = bool(flag)
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        if self.dev is not None and state.global_step % self.trainer.recipe.dev_every == 0:
            self._search(state.global_step)
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A step's numbers."""
        del control
        if not logs or "loss" not in logs:
            return
        seen, now = self.trainer.seen, time.monotonic()
        seconds, self._began = max(now - self._began, 1e-9), now
        self.broken += len(seen["broken"])
        for each in seen["broken"]:
            _LOG.warning("replaced %s (%d so far)", each, self.broken)
        line = {
            "step": state.global_step,
            "loss": logs["loss"],
            "loss_con": logs["loss_con"],
            "loss_gen": logs.get("loss_gen"),
            "grad_norm": logs.get("grad_norm"),
            "lr": logs["learning_rate"],
            "dataset": seen["dataset"],
            "items_per_s": round(len(seen["rows"]) * args.world_size / seconds, 2),
            "tokens_per_s": round(seen["tokens"] * args.world_size / seconds, 1),
            "memory": memory(),
            "replaced": self.broken,
        }
        if self._metrics:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
            self._screen.step(line)

    def close(self) -> None:
        """Give back the screen and Ctrl-C, however the run ended."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None
        if self._metrics:
            self._metrics.close()
            self._screen.close()
            self._metrics = None

    def _interrupt(self, *_: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        _LOG.warning("stopping after this step; Ctrl-C again stops at once, without saving")

    def _search(self, step: int) -> None:
        assert self.dev is not None  # noqa: S101  (for mypy)
        scores = search(self.trainer.model, self.dev, self.trainer.recipe.dev_rows)
        mean = sum(scores.values()) / len(scores)
        self.trainer.keep_best(step, mean)
        if self._first:
            with (self.trainer.out / "dev.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "hit@1": mean, **scores}) + "\n")


def memory() -> int:
    """Bytes at the peak: of the accelerator where there is one, else of the process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def cut(file: Path, step: int) -> None:
    """Drop the lines after a step, and half a line at the end."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    part = file.with_name(file.name + ".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    part.replace(file)


def _told(line: dict[str, Any]) -> str:
    generation = "" if line["loss_gen"] is None else f"  gen {line['loss_gen']:.3f}"
    rates = f"{line['items_per_s']:.1f} items/s  {line['tokens_per_s']:.0f} tokens/s  {line['memory'] / 2**30:.2f} GiB"
    return f"con {line['loss_con']:.3f}{generation}  {rates}"


class _Bar:
    """A live bar on a terminal."""

    def __init__(self, state: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.progress.start()
        self.task = self.progress.add_task("", total=state.max_steps, completed=state.global_step)

    def step(self, line: dict[str, Any]) -> None:
        self.progress.update(self.task, completed=line["step"], description=_told(line))

    def close(self) -> None:
        self.progress.stop()


class _Lines:
    """A plain line now and then, with the time that is left."""

    def __init__(self, state: Any) -> None:
        self.total, self.first = state.max_steps, state.global_step
        self.began = time.monotonic()
        self.last = 0.0

    def step(self, line: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last < _EVERY and line["step"] < self.total:
            return
        self.last = now
        left = (self.total - line["step"]) * (now - self.began) / max(line["step"] - self.first, 1)
        sys.stderr.write(f"step {line['step']}/{self.total}  {_told(line)}  {left:.0f} s left\n")

    def close(self) -> None:
        sys.stderr.flush()
