"""`btoks train`, `btoks data check` and `btoks plot`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from command import run
from training import records
from training.runs import script

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.write(tmp_path_factory.mktemp("data"))


@pytest.fixture
def mine(data: Path, tmp_path: Path) -> Path:
    return script(tmp_path / "mine.py", f"small(Path({str(data)!r}))")


def test_train_and_plot(mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = run(
        "train", mine, "--out", out, "--steps", "3", "--batch", "2", "--lr", "1e-4", "--save-every", "2", "--json"
    )
    assert ran.status == 0, ran.err
    assert ran.records == [{"model": str(out / "model"), "metrics": str(out / "metrics.jsonl")}]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert max(line["lr"] for line in lines) == pytest.approx(1e-4)
    assert "step 3/3" in ran.err
    again = run("train", mine, "--out", out, "--steps", "4")
    assert again.status == 1
    assert "it holds a run with other batch, lr, steps; use --restart" in again.line
    assert run("plot", out, "--json").records == [{"out": str(out / "curves.png")}]
    assert Image.open(out / "curves.png").width > 300
    assert run("plot", out, "--out", tmp_path / "curves.svg").status == 0
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    assert "not a PNG or SVG" in run("plot", out, "--out", tmp_path / "curves.gif").line


def test_plot_needs_a_run(tmp_path: Path) -> None:
    assert "it has no metrics.jsonl with a step in it" in run("plot", tmp_path).line


def test_a_wrong_recipe_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BTOKS_DATA", raising=False)
    assert run("train", "minni", "--out", tmp_path / "run").line.endswith("did you mean 'mini'?")
    ran = run("train", "mini", "--out", tmp_path / "run")
    assert (ran.status, "set BTOKS_DATA" in ran.line) == (1, True)


def test_check_tells_what_is_there(mine: Path) -> None:
    ran = run("data", "check", mine, "--rows", "3", "--json")
    assert ran.status == 0, ran.out
    found = {each["name"]: each for each in ran.records}
    assert list(found) == ["classes", "pictures", "clips", "pages"]
    classes = found["classes"]
    assert (classes["rows"], classes["opened"], classes["side"], classes["share"]) == (10, 3, "positive", 0.2)
    assert classes["sizes"] == {"query": "3 image + text, pictures 90×60 to 90×60", "positive": "3 text"}
    assert classes["query_tokens"][0] <= classes["query_tokens"][1] <= classes["query_tokens"][2]
    assert [each["id"] for each in classes["prompts"]] == ["cls-0", "cls-3", "cls-7"] or len(classes["prompts"]) == 3
    shown = classes["prompts"][0]["query"]
    assert shown.startswith("<|vision_start|><|image_pad|>×")
    assert shown.endswith("\nName it. what is it?\n<|btok_0|><|btok_1|><|btok_2|><|btok_3|>")
    assert "clips of 2 to 2 frames" in found["clips"]["sizes"]["query"]
    plain = run("data", "check", mine)
    assert "classes: 10 rows, 20.0% of the batches, side positive" in plain.out


def test_check_finds_every_problem(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "things" / "0.png").write_bytes(b"no picture")
    side = "'query' if each.name == 'pages' else 'positive'"
    sets = f"tuple(dataclasses.replace(each, side={side}) for each in records.SETS)"
    gone = "Set('gone', Records('nowhere'))"
    made = f"small(Path({str(tmp_path / 'data')!r}), sets=({gone}, *{sets}), batch=11)"
    mine = script(tmp_path / "mine.py", made)
    text = mine.read_text()
    head = "import dataclasses\nfrom training import records\nfrom btoks.training.data import Set\n"
    mine.write_text(head + "from btoks.training.readers import Records\n" + text)
    ran = run("data", "check", mine, "--json")
    assert ran.status == 1
    found = {each["name"]: each["problems"] for each in ran.records}
    assert "there is no such folder" in found["gone"][0]
    assert found["classes"][0].startswith("row 0: ")
    assert "10 rows are fewer than a batch of 11: rows repeat within it" in found["classes"]
    assert "side='positive', but no positive has a text to generate" in found["pictures"]
    assert found["pages"] == []
