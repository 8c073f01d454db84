"""Tasks from local records: the same candidates, items and scores as a loop written out by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from btoks.errors import BtoksError
from btoks.evaluation import DataError, evaluate, metrics
from btoks.evaluation.records import FRAMES, PIXELS, tasks
from btoks.evaluation.task import check
from btoks.training.recipes import mini
from evaluation.record_folder import write
from items import attached, streamed

NAMES = ["toys-image_cls", "toys-i2t", "toys-t2i", "toys-image_vg", "films-video_mret", "papers-visdoc"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("records"))


def records_of(folder: Path, task: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    kept = [each for each in records if task in (each["meta_task"], each.get("pool", "").rpartition("/")[2])]
    return [each for each in kept if each["split"] == "test" or each["meta_task"] == "image_cls"]


def choices(folder: Path, record: dict[str, Any], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The candidates of a record, by the rules of the form."""
    if "candidates" in record:
        return record["candidates"]
    if record["meta_task"] == "visdoc":
        return [{"page": page} for page in json.loads((folder / "pools.json").read_text())[record["pool"]]]
    found: list[dict[str, Any]] = []
    for each in (positive for other in records for positive in other["positives"]):
        found += [each] * (each not in found)
    return found


def item(folder: Path, side: dict[str, Any]) -> dict[str, Any]:
    """What the model is to be given for a side."""
    out = {"text": side["text"]} if "text" in side else {}
    if "page" in side:
        name = Path(side["page"]).stem
        prose = f"the {name}\ntwo people read a book"
        return {
            "text": prose if name.endswith("en") else f"Dog | Fox\n1 | {name}",
            "image": small(folder, side["page"]),
        }
    if "image" in side:
        out["image"] = small(folder, side["image"], side.get("box"))
    if "video" in side:
        frames = side["video"]
        kept = [at * (len(frames) - 1) // 3 for at in range(4)] if len(frames) > 4 else list(range(len(frames)))
        array = np.stack([np.asarray(small(folder, frames[at])) for at in kept])
        times = {"fps": 2.0, "total_num_frames": len(frames), "duration": len(frames) / 2, "frames_indices": kept}
        out["video"] = {"array": array, "video_metadata": times}
    return out


def small(folder: Path, path: str, box: list[int] | None = None) -> Image.Image:
    image = Image.open(folder / path).convert("RGB")
    image = image.crop(tuple(box)) if box else image
    share = min((PIXELS / (image.width * image.height)) ** 0.5, 1.0)
    return image.resize((int(image.width * share), int(image.height * share))) if share < 1 else image


def test_the_tasks_come_in_the_benchmarks_order_and_can_be_scored(home: Path) -> None:
    found = tasks(home)
    assert [task.name for task in found] == NAMES
    assert [task.about["meta_task"] for task in found] == ["I-CLS", "I-RET", "I-RET", "I-VG", "V-MR", "VD"]
    for task in found:
        check(task)
        assert (task.metric == "ndcg_linear@5") == (task.about["meta_task"] == "VD")


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_a_loop_by_hand(home: Path, name: str) -> None:
    model = attached("qwen3_vl")
    (task,) = (each for each in tasks(home) if each.name == name)
    result = evaluate(model, [task])[name]
    folder, _, group = name.partition("-")
    records = records_of(home / folder, group)
    asked = [record for record in records if record["split"] == "test"]
    assert [each.query for each in result.predictions] == [record["id"] for record in asked]
    for record, prediction in zip(asked, result.predictions, strict=True):
        sides = choices(home / folder, record, records)
        vectors = streamed(model, [item(home / folder, side) for side in (record["query"], *sides)])
        scores = vectors[1:] @ vectors[0]
        order = np.argsort(-scores)
        assert prediction.scores == pytest.approx(list(scores[order]), abs=1e-5)
        right = {place: 1.0 for place, side in enumerate(sides) if side in record["positives"]}
        assert prediction.value == metrics.score(list(map(int, order)), right)[task.metric]


def test_settings_are_those_of_the_recipe() -> None:
    assert {(each.frames, each.pixels) for each in mini.SETS} == {(FRAMES, PIXELS)}


def test_pages_without_their_text(home: Path) -> None:
    (task,) = (each for each in tasks(home, layers=False) if each.name == "papers-visdoc")
    assert [entry.text for entry in task.corpus] == [""] * 5
    assert task.about["layers"] is False
    assert all(entry.image is not None for entry in task.corpus)


def test_nothing_is_opened_before_it_is_asked_for_and_what_is_broken_is_counted(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "toys", tmp_path / "toys")
    (tmp_path / "toys/images/0.png").unlink()
    (task,) = (each for each in tasks(tmp_path) if each.name == "toys-t2i")
    check(task)
    assert "0.png" in task.corpus[0].broken
    assert [entry.broken for entry in task.corpus[1:]] == ["", ""]
    result = evaluate(attached("qwen3_vl"), [task])["toys-t2i"]
    assert list(result.missing_candidates) == ["images/0.png"]


def test_what_a_pools_file_lists_goes_before_the_records(home: Path, tmp_path: Path) -> None:
    """Labels too can be listed, where the records that hold them are not there."""
    shutil.copytree(home / "toys", tmp_path / "toys")
    listed = [{"text": label} for label in ("fox", "bus", "garden", "lion", "tiger")]
    (tmp_path / "toys/pools.json").write_text(json.dumps({"image_cls/cls": listed}))
    assert [entry.text for entry in tasks(tmp_path)[0].corpus] == ["fox", "bus", "garden", "lion", "tiger"]
    assert [entry.text for entry in tasks(home)[0].corpus] == ["fox", "bus", "garden", "zebra"]


def test_what_is_wrong_is_one_line(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BtoksError, match=r"no folder of it holds a records\.jsonl"):
        tasks(tmp_path)
    with pytest.raises(BtoksError, match=r"split 'tset': no record is of it; .*'test'"):
        tasks(home, "tset")
    (tmp_path / "odd").mkdir()
    record = {"id": "1", "meta_task": "image_clss", "split": "test", "query": {}, "positives": []}
    (tmp_path / "odd/records.jsonl").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"records\.jsonl line 1: it has no candidates or pool; add it"):
        tasks(tmp_path)
    (tmp_path / "odd/records.jsonl").write_text(json.dumps(record | {"pool": "cls"}))
    with pytest.raises(DataError, match=r"no meta-task 'image_clss'; .*'image_cls'"):
        tasks(tmp_path)
    (tmp_path / "odd/records.jsonl").write_text("{")
    with pytest.raises(BtoksError, match="its records cannot be read"):
        tasks(tmp_path)
