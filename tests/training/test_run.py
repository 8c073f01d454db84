"""A run from its data to a model folder: what is written, what goes on after a kill, what stops it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import btoks
import tiny
from btoks import load, save
from btoks.bottleneck import generator, record
from btoks.condensation import memory, read
from btoks.errors import BtoksError
from btoks.training import Lora, train
from btoks.training.build import build
from btoks.training.data import Mixture, Set
from btoks.training.readers import Given
from btoks.training.rows import Row
from btoks.training.run import _trainer, plan_of
from btoks.training.state import read as read_state
from btoks.training.watch import _Bar
from items import features
from training import records
from training.runs import adapted, losses, metrics, same_weights, script, weights

HEAD = "from pathlib import Path\n"


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with adapters."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    train(adapted(data), out=out)
    return out


def test_a_run_writes_its_numbers_and_a_model(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    model = train(records.recipe(data), out=out)
    assert model == out / "model"
    assert sorted(each.name for each in out.iterdir()) == ["checkpoint-6", "metrics.jsonl", "model", "recipe.json"]
    lines = metrics(out)
    assert [line["step"] for line in lines] == list(range(1, 7))
    sides = {each.name: each.side for each in records.SETS}
    for line in lines:
        generation = line["loss_gen"] or 0.0
        assert line["loss"] == pytest.approx(line["loss_con"] + generation, rel=1e-5)
        assert (line["loss_gen"] is None) == (sides[line["dataset"]] == "none")
        assert min(line[key] for key in ("items_per_s", "tokens_per_s", "memory", "grad_norm")) > 0
        assert line["replaced"] == 0
    opened = btoks.load(model, device="cpu")
    _, held = memory(opened, features(opened, {"text": "fox"}))
    assert isinstance(read(opened, held, max_new_tokens=3)[0], str)


def test_training_learns(data: Path, tmp_path: Path) -> None:
    sets = (dataclasses.replace(records.SETS[0], side="positive"),)
    train(records.recipe(data, sets=sets, steps=30, save_every=100), out=tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss_gen"] < 0.5 * lines[0]["loss_gen"]


def test_a_finished_run_is_left_alone_and_restart_begins_anew(data: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", records.recipe(data, steps=1)
    train(recipe, out=out)
    stamp = (out / "model" / "config.json").stat().st_mtime_ns
    train(recipe, out=out)
    assert (out / "model" / "config.json").stat().st_mtime_ns == stamp
    with pytest.raises(BtoksError, match="it holds a run with other lr"):
        train(dataclasses.replace(recipe, lr=1.0), out=out)
    train(dataclasses.replace(recipe, save_every=7, chunk=1), out=out)
    train(dataclasses.replace(recipe, lr=1e-4), out=out, restart=True)
    assert (out / "model" / "config.json").stat().st_mtime_ns != stamp


def test_a_folder_of_something_else_is_not_touched(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for restart in (False, True):
        with pytest.raises(BtoksError, match="it is no run of ours"):
            train(records.recipe(data), out=tmp_path, restart=restart)
    assert (tmp_path / "thesis.txt").is_file()


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_a_bad_number_stops_the_run_with_its_rows(data: Path, tmp_path: Path, what: str) -> None:
    model, notes = tiny.backbone("qwen3_vl", layers=2)
    if what == "loss":
        model.get_input_embeddings().weight.data[notes.tokenizer("x").input_ids] = float("nan")
    else:
        model.get_input_embeddings().weight.register_hook(lambda grad: grad * float("inf"))
    rows = [
        Row(f"row {place}", {"text": f"question {place}"}, {"text": "x" if place == 5 else "y"}) for place in range(8)
    ]
    sets = (Set("texts", Given(rows)),)
    recipe = records.recipe(data, sets=sets, model=lambda _: (model, notes))
    step = 2 if what == "loss" else 1
    with pytest.raises(BtoksError, match=rf"step {step}: the {what} is (nan|inf) on texts, rows row \d.*row \d"):
        train(recipe, out=tmp_path / "run")
    failed = json.loads((tmp_path / "run" / "failed.json").read_text())
    assert failed["rows"] == [f"row {place}" for place in range(4 * step - 4, 4 * step)]
    assert [line["step"] for line in metrics(tmp_path / "run")] == list(range(1, step))


def test_broken_rows_are_counted(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(data, tmp_path / "data")
    for number in range(0, 10, 2):
        (tmp_path / "data" / "things" / f"{number}.png").write_bytes(b"no picture")
    train(records.recipe(tmp_path / "data", sets=records.SETS[:1]), out=tmp_path / "run")
    total = metrics(tmp_path / "run")[-1]["replaced"]
    assert total > 4
    assert f"({total} so far)" in caplog.text


def test_a_data_set_of_broken_rows_alone_is_told_from_a_worker(tmp_path: Path) -> None:
    rows = [Row(f"row {place}", {"text": "a"}, {}) for place in range(3)]
    recipe = records.recipe(tmp_path, sets=(Set("bad", Given(rows)),), workers=1)
    with pytest.raises(BtoksError, match=r"^data set bad: none of its 3 rows can be opened \(row 0: row: one of"):
        train(recipe, out=tmp_path / "run")


def test_only_adapters_and_bottleneck_rows_train(data: Path, trained: Path) -> None:
    before = btoks.attach(tiny.backbone("qwen3_vl", layers=2))
    rows = before.tokenizer.convert_tokens_to_ids([f"<|btok_{place}|>" for place in range(4)])
    one, two = generator(before).state_dict(), weights(trained)
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    table = next(name for name in changed if name.endswith("embed_tokens.weight"))
    lora = {"q_proj", "k_proj", "v_proj", "o_proj", "down_proj"}
    assert {name.split(".")[-2] for name in changed - {table}} == lora
    moved = (one[table] != two[table]).any(dim=1).nonzero().flatten().tolist()
    assert moved == sorted(rows)
    assert not torch.equal(one[table][rows[0]], two[table][rows[0]])


def test_checkpoints_hold_what_trains_and_refuse_others(data: Path, trained: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    (checkpoint,) = trained.glob("checkpoint-*")
    with safe_open(checkpoint / "trained.safetensors", "pt") as stored:
        names = list(stored.keys())
    assert names
    assert all("lora_" in name or "trainable_tokens" in name for name in names)
    other = records.recipe(data)
    trainer = _trainer(other, tmp_path, btoks.attach(tiny.backbone("qwen3_vl", layers=2)), Mixture(other.sets, data))
    with pytest.raises(BtoksError, match="it holds other tensors than this model trains"):
        read_state(checkpoint, trainer.trained())


def test_the_best_state_on_dev_is_kept(data: Path, tmp_path: Path) -> None:
    dev = (dataclasses.replace(records.SETS[0], name="dev"),)
    recipe = records.recipe(data, dev=dev, dev_every=2, lr=0.3, max_grad_norm=100.0)
    train(recipe, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "dev.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    best = json.loads((tmp_path / "run" / "best" / "score.json").read_text())
    assert best["score"] == max(line["hit@1"] for line in lines) == max(line["dev"] for line in lines)
    assert best["step"] == next(line["step"] for line in lines if line["hit@1"] == best["score"])


def test_a_recipe_goes_on_from_its_start(data: Path, tmp_path: Path) -> None:
    stage = script(tmp_path / "stage.py", f"small(Path({str(data)!r}), steps=2, mask=False)")
    recipe = records.recipe(data, model=None, start=str(stage), steps=2)
    train(recipe, out=tmp_path / "run")
    first, then = (metrics(tmp_path / folder) for folder in ("run/start", "run"))
    assert len(first) == len(then) == 2
    assert not same_weights(tmp_path / "run" / "start", tmp_path / "run")
    again = tmp_path / "again"
    train(records.recipe(data, model=str(tmp_path / "run" / "start" / "model"), steps=2), out=again)
    assert losses(again) == losses(tmp_path / "run")


def test_a_start_can_be_gone_on_from_with_other_tokens(data: Path, tmp_path: Path) -> None:
    save(build(records.recipe(data, tokens=3)), tmp_path / "start")
    table = load(tmp_path / "start")[0].generator.get_input_embeddings().weight
    poolings = ((3, "mean"), (1, "mean"), (0, "last"), (0, "input_mean"))
    for tokens, pooling in poolings:
        recipe = dataclasses.replace(
            records.recipe(data, tokens=tokens, pooling=pooling), model=None, start="mini_captions"
        )
        model = build(recipe, tmp_path / "start")
        assert record(model)["tokens"] == tokens
        assert (model[0].generator.get_input_embeddings().weight[:64] == table[:64]).all()
        ids = model.preprocess([{"text": "a fox"}])["input_ids"][0].tolist()
        named = [model.tokenizer.convert_ids_to_tokens(each) for each in ids]
        assert sum(name.startswith("<|btok_") for name in named) == tokens
        save(model, tmp_path / f"{tokens}-{pooling}")
        again = load(tmp_path / f"{tokens}-{pooling}").encode([{"text": "a fox"}])
        assert abs(again - model.encode([{"text": "a fox"}])).max() < 1e-6
    with pytest.raises(BtoksError, match="has 3 bottleneck tokens"):
        build(dataclasses.replace(records.recipe(data, tokens=4), model=None, start="mini"), tmp_path / "start")


def test_the_end_of_the_data_ends_the_run(data: Path, tmp_path: Path) -> None:
    recipe = records.recipe(data, sets=records.SETS[2:3], steps=None, stop="first", batch=5)
    assert plan_of(recipe, Mixture(recipe.sets, data)).count() == 2
    train(recipe, out=tmp_path / "run")
    assert len(metrics(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    "changed",
    [{"checkpointing": True}, {"precision": "bf16"}, {"lora": Lora(), "precision": "bf16"}],
    ids=["checkpointing", "bf16", "bf16 with adapters"],
)
def test_settings_that_change_little(data: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    train(records.recipe(data, steps=1), out=tmp_path / "plain")
    train(records.recipe(data, steps=1, **changed), out=tmp_path / "run")
    within = 1e-5 if "checkpointing" in changed else 0.05
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(metrics(tmp_path / "plain")[0]["loss"], rel=within)


def test_the_first_fsdp_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(BtoksError, match="fsdp_version: 2"):
        train(records.recipe(data), out=tmp_path / "run")


def test_a_bar_shows_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    bar = _Bar(SimpleNamespace(max_steps=8, global_step=3))
    rates = {"items_per_s": 5.0, "tokens_per_s": 70.0, "memory": 2**30}
    bar.step({"step": 4, "loss_con": 1.25, "loss_gen": None, **rates})
    bar.close()
    shown = capsys.readouterr().err
    assert "4/8" in shown
    assert "con 1.250  5.0 items/s  70 tokens/s  1.00 GiB" in shown
