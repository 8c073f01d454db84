"""What a killed, interrupted or half-written run left behind goes on to the same losses and weights."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

import btoks
import tiny
from btoks.bottleneck import generator
from btoks.training import train
from btoks.training.trainer import RecipeTrainer
from btoks.training.watch import Watch, cut
from training import records
from training.runs import adapted, environment, losses, same_weights, script, train_to

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(adapted(data), out=out)
    return out


def test_the_same_seed_gives_the_same_run(data: Path, whole: Path, tmp_path: Path) -> None:
    train(adapted(data, workers=2, save_every=100), out=tmp_path / "again")
    assert losses(tmp_path / "again") == losses(whole), "workers change nothing"
    assert same_weights(tmp_path / "again", whole)
    train(adapted(data, seed=1), out=tmp_path / "other")
    assert losses(tmp_path / "other") != losses(whole)


def test_what_any_moment_left_behind_goes_on_alike(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder as it lies after every line and in the middle of every checkpoint, as a kill would leave it."""
    log, save = Watch.on_log, RecipeTrainer._save_optimizer_and_scheduler
    moments: list[Path] = []

    def keep(out: Path) -> None:
        moments.append(tmp_path / f"moment-{len(moments)}")
        shutil.copytree(out, moments[-1])

    def logged(self: Watch, *args: Any, **kwargs: Any) -> None:
        log(self, *args, **kwargs)
        keep(self.trainer.out)

    def saved(self: RecipeTrainer, *args: Any) -> None:
        keep(self.out)
        save(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_log", logged)
        patch.setattr(RecipeTrainer, "_save_optimizer_and_scheduler", saved)
        train(adapted(data), out=tmp_path / "run")
    assert len(moments) == 6 + 1 + 3, "a line a step and one at the end, three checkpoints"
    first_line, in_checkpoint, after_it, whole_run = (moments[each] for each in (1, 2, 4, 9))
    for moment in (first_line, in_checkpoint, after_it, whole_run):
        train(adapted(data), out=moment)
        assert losses(moment) == losses(whole), moment
        assert not list(moment.glob(".*")), "nothing half-written stays"
    assert same_weights(after_it, whole)


def lines(out: Path) -> int:
    file = out / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


@pytest.mark.timeout(300)
def test_a_killed_and_then_interrupted_run_goes_on_alike(data: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    train(adapted(data, steps=24, save_every=3), out=whole)
    mine = script(tmp_path / "mine.py", f"adapted(Path({str(data)!r}), steps=24, save_every=3)")
    run = [sys.executable, "-m", "btoks", "train", str(mine), "--out", str(out)]
    for end, after, status in ((signal.SIGKILL, 5, -9), (signal.SIGINT, 13, 130)):
        process = subprocess.Popen(run, env=environment(), stderr=subprocess.PIPE, text=True)
        while process.poll() is None and lines(out) < after:
            time.sleep(0.005)
        process.send_signal(end)
        _, told = process.communicate(timeout=240)
        assert process.returncode == status, told
    assert (out / f"checkpoint-{lines(out)}").is_dir(), "Ctrl-C saves where it stops"
    train(adapted(data, steps=24, save_every=3), out=out)
    assert losses(out) == losses(whole)
    assert same_weights(out, whole)


def test_the_language_model_head_survives_checkpoints(data: Path, tmp_path: Path) -> None:
    """An untied head lies beside the body: it must be trained, resumed and published."""
    sets = records.SETS[:1]
    train(records.recipe(data, sets=sets, steps=4), out=tmp_path / "whole")
    train_to(records.recipe(data, sets=sets, steps=4, save_every=2), tmp_path / "parts", 2)
    train(records.recipe(data, sets=sets, steps=4, save_every=2), out=tmp_path / "parts")
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    head = generator(btoks.load(tmp_path / "whole" / "model", device="cpu")).get_output_embeddings().weight
    assert not torch.equal(head, tiny.backbone("qwen3_vl", layers=2)[0].get_output_embeddings().weight)


def test_a_learnt_temperature_is_trained_and_resumed(data: Path, tmp_path: Path) -> None:
    recipe = records.recipe(data, learn_temperature=True, steps=4, save_every=2, temperature=0.1, lr=1e-2)
    train(recipe, out=tmp_path / "whole")
    train_to(recipe, tmp_path / "parts", 2)
    train(recipe, out=tmp_path / "parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    from safetensors.torch import load_file

    held = load_file(tmp_path / "whole" / "checkpoint-4" / "trained.safetensors")
    learnt = {name: value for name, value in held.items() if name.startswith("temperature.")}
    assert len(learnt) == len(records.SETS)
    assert any(abs(float(value.exp()) - 0.1) > 1e-4 for value in learnt.values())


def test_half_a_line_and_later_steps_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    cut(file, 2)
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'
    cut(tmp_path / "none.jsonl", 2)
