"""Rows of local records become features: media opened, texts cut, broken rows replaced, equal contents known."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from btoks.bundled import sample
from btoks.errors import BtoksError
from btoks.media import Source
from btoks.training.data import Collator, Mixture, Set
from btoks.training.readers import Given, Records
from btoks.training.rows import Ref, Row, decoded, fingerprint
from btoks.training.sampler import Place
from items import attached, fresh, picture, token_ids
from training import records

if TYPE_CHECKING:
    from pathlib import Path


def rows(*pairs: tuple[Any, Any]) -> Given:
    return Given([Row(f"row {place}", query, positive) for place, (query, positive) in enumerate(pairs)])


def test_records_are_those_of_split_task_and_pool(data: Path) -> None:
    assert len(Records("things", task="cls").open(data)) == 10
    assert len(Records("things", split="dev").open(data)) == 6
    with pytest.raises(BtoksError, match=r"no record of train, qa"):
        Records("things", task="qa").open(data)
    with pytest.raises(BtoksError, match="no record of train, x/y"):
        Records("things", pool="x/y").open(data)


def test_missing_data_are_told_in_a_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BtoksError, match="set BTOKS_DATA"):
        Records("things").open(None)
    with pytest.raises(BtoksError, match="there is no such folder"):
        Records("nothing").open(data)
    monkeypatch.setenv("BTOKS_DATA", str(data))
    assert records.recipe(data).folder == data


def test_a_box_is_that_part_of_the_picture(data: Path) -> None:
    row = Mixture((Set("vg", Records("things", task="vg")),), data)[Place(0, 0, 0)]
    whole = np.asarray(picture(0))
    assert np.array_equal(np.asarray(row["items"]["positive"]["image"]), whole[10:40, 10:50])
    assert np.array_equal(np.asarray(row["items"]["query"]["image"]), whole)


def test_clips_and_pages_are_opened_as_set(data: Path) -> None:
    mixture = Mixture((Set("clips", Records("clips"), frames=3), Set("pages", Records("pages"), pixels=1000)), data)
    clip = mixture[Place(0, 1, 0)]["items"]["query"]["video"]
    assert clip["array"].shape == (3, 40, 40, 3)
    page = mixture[Place(1, 1, 0)]["items"]["positive"]["image"]
    assert page.width * page.height <= 1000
    assert page.width / page.height == pytest.approx(50 / 70, abs=0.05)
    small = decoded({"video": Ref(Source([picture(1), picture(2)]))}, records_load, 500)["video"]["array"]
    assert small.shape[1] * small.shape[2] <= 500


def records_load(source: Source) -> Any:
    from btoks.media import load

    return load(source)


def test_films_and_pdf_pages_are_opened(tmp_path: Path) -> None:
    shutil.copy(next((sample() / "videos").rglob("*.mp4")), tmp_path / "clip.mp4")
    shutil.copy(sample() / "documents" / "recipe-shakshouka.pdf", tmp_path / "doc.pdf")
    given = {"id": 1, "split": "train", "query": {"video": "clip.mp4"}, "positives": [{"page": "doc.pdf", "number": 1}]}
    records.lines(tmp_path, [given])
    home = Mixture((Set("films", Records(tmp_path.name), frames=2),), tmp_path.parent)
    items = home[Place(0, 0, 0)]["items"]
    assert len(items["query"]["video"]["array"]) == 2
    assert items["positive"]["image"].width > 100


def test_positives_and_negatives_take_turns(data: Path) -> None:
    opened = Records("things", task="ret").open(data)
    assert [opened.row(0, passed).positive.get("text") for passed in range(4)] == [None, "again", None, "again"]
    wrong = Records("things", task="cls", negatives=2).open(data)
    texts = [[side["text"] for side in wrong.row(0, passed).negatives] for passed in range(3)]
    assert texts == [["bus", "house"], ["garden", "bus"], ["house", "garden"]]
    with pytest.raises(BtoksError, match="no candidate is wrong"):
        Records("things", task="ret", negatives=1).open(data).row(0, 0)


def test_equal_contents_have_equal_numbers(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    picture(2).save(tmp_path / "c.png")
    a, b, c = ({"image": Ref(Source(tmp_path / name))} for name in ("a.png", "b.png", "c.png"))
    assert fingerprint(a) == fingerprint(b) != fingerprint(c)
    assert fingerprint({**a, "text": "x"}) != fingerprint(a)
    boxed = [{"image": Ref(Source(tmp_path / "a.png"), box)} for box in ((0, 0, 5, 5), (0, 0, 5, 6))]
    assert len({fingerprint(each) for each in (*boxed, a)}) == 3
    clips = [{"video": Ref(Source([tmp_path / name for name in names]))} for names in (("a.png",), ("a.png", "b.png"))]
    assert len({fingerprint(each) for each in (*clips, a)}) == 3
    assert fingerprint({"text": "Red  fox"}) == fingerprint({"text": "red fox"}) != fingerprint({"text": "redfox"})
    assert 0 <= fingerprint(a) < 2**63


@pytest.mark.parametrize("harm", ["gone", "empty", "noise", "box"])
def test_a_broken_row_is_replaced_and_told(data: Path, tmp_path: Path, harm: str) -> None:
    shutil.copytree(data, tmp_path / "data")
    things = tmp_path / "data" / "things"
    if harm == "gone":
        (things / "0.png").unlink()
    elif harm == "box":
        lines = [json.loads(line) for line in (things / "records.jsonl").read_text().splitlines()]
        lines[2]["positives"][0]["box"] = [50, 10, 10, 40]
        records.lines(things, lines)
    else:
        (things / "0.png").write_bytes(b"" if harm == "empty" else os.urandom(200))
    mixture = Mixture((Set("vg", Records("things", task="vg")),), tmp_path / "data")
    row = mixture[Place(0, 0, 0)]
    assert row["id"] == "vg-1"
    assert len(row["broken"]) == 1
    assert row["broken"][0].startswith("row 0: ")
    assert mixture[Place(0, 3, 0)]["broken"] == []


def test_nothing_but_broken_rows_is_an_error() -> None:
    mixture = Mixture((Set("bad", rows(({"text": "a"}, {}), ({}, {"text": "b"}))),), None)
    with pytest.raises(BtoksError, match="none of its 2 rows can be opened"):
        mixture[Place(0, 0, 0)]


def test_features_are_those_of_the_model(data: Path) -> None:
    model, sets = attached("qwen3_vl"), records.SETS
    mixture, collate = Mixture(sets, data), Collator(attached("qwen3_vl"), sets)
    batch = collate([mixture[Place(0, number, 0)] for number in range(3)])
    image = Image.open(data / "things" / "0.png")
    alone = model.preprocess([{"text": "what is it?", "image": image}], prompt="Name it.")
    assert torch.equal(batch["query_input_ids"][0], alone["input_ids"][0])
    assert torch.equal(batch["query_pixel_values"][: len(alone["pixel_values"])], alone["pixel_values"])
    assert batch["dataset_name"] == "classes"
    assert batch["rows"] == ["cls-0", "cls-1", "cls-2"]
    assert batch["broken"] == []
    assert batch["label"].tolist() == [[fingerprint({"text": name})] for name in ("fox", "bus", "house")]


def test_a_long_text_keeps_its_bottleneck_tokens() -> None:
    model = fresh("qwen3_vl", max_tokens=64)
    sets = (Set("long", rows(({"text": "word " * 500, "image": Ref(Source(picture(1)))}, {"text": "x"}))),)
    batch = Collator(model, sets)([Mixture(sets, None)[Place(0, 0, 0)]])
    assert batch["query_input_ids"].shape[1] <= 64
    assert batch["query_input_ids"][0, -4:].tolist() == token_ids(model)


def test_a_row_that_the_processor_refuses_is_replaced_and_told() -> None:
    """A strip of 1 × 900 pixels opens well and is no picture for this processor."""
    odd = Image.new("RGB", (900, 1))
    good = [({"image": Ref(Source(picture(place)))}, {"text": str(place)}) for place in range(2)]
    sets = (Set("odd", rows(good[0], ({"image": Ref(Source(odd))}, {"text": "odd"}), good[1])),)
    mixture, model = Mixture(sets, None), attached("qwen3_vl")
    batch = Collator(model, sets)([mixture[Place(0, number, 0)] for number in range(3)])
    assert batch["rows"] == ["row 0", "row 2", "row 2"]
    assert len(batch["broken"]) == 1
    assert "row 1" in batch["broken"][0]
    with pytest.raises(BtoksError, match="a whole batch is unusable"):
        Collator(model, sets)([mixture[Place(0, 1, 0)]])


def test_hard_negatives_are_columns_with_hashes(data: Path) -> None:
    sets = (Set("cls", Records("things", task="cls", negatives=2)),)
    batch = Collator(attached("qwen3_vl"), sets)([Mixture(sets, data)[Place(0, 0, 0)]])
    assert batch["label"].tolist() == [[fingerprint({"text": name}) for name in ("fox", "bus", "house")]]
    columns = [key for key in batch if key.endswith("_input_ids")]
    assert columns == ["query_input_ids", "positive_input_ids", "negative_0_input_ids", "negative_1_input_ids"]
