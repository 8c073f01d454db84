"""What data must be before they count, where they may lie, and what becomes of those that are missing or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from btoks.errors import BtoksError
from btoks.evaluation import DataError, Task, evaluate
from btoks.evaluation.mmeb.registry import Row, select
from btoks.evaluation.mmeb.tasks import load, tasks
from btoks.evaluation.run import Unloaded
from evaluation import mmeb_folder
from items import attached


def row(name: str, revision: str = "fixed") -> Row:
    (found,) = select(dataset=name, revision=revision)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mmeb_folder.write(tmp_path_factory.mktemp("mmeb"), [row("VOC2007"), *select(task="V-MR")])


def one(folder: Path, name: str) -> Task:
    return load(row(name), data=folder, any_counts=True)


def test_counts_are_checked_before_anything_is_embedded(folder: Path) -> None:
    with pytest.raises(DataError, match="2 queries where there should be 1000; use --any-counts"):
        load(row("VOC2007"), data=folder)
    found = list(tasks(select(task="V-MR"), data=folder))
    assert [str(each.error) for each in found if isinstance(each, Unloaded)] == [
        "QVHighlight: 2 queries where there should be 1083; use --any-counts to go on",
        "Charades-STA: 2 queries where there should be 727; use --any-counts to go on",
        "MomentSeeker: 3 queries where there should be 1602; use --any-counts to go on",
    ]


def test_other_instructions_than_the_tables_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = row("VOC2007")
    changed = Row(**{**vars(known), "query": "Name it", "queries": 2})
    with pytest.raises(DataError, match="its data ask 'Identify the object shown in the image', the table 'Name it'"):
        load(changed, data=folder)
    assert load(changed, data=folder, any_counts=True).about["official"] is False
    same = Row(**{**vars(known), "queries": 2})
    assert load(same, data=folder).about["official"] is True


def test_revisions(tmp_path: Path) -> None:
    assert row("ViDoSeek-page").repo == "VLM2Vec/ViDoSeek-page-fixed"
    assert row("ViDoSeek-page").published == "ViDoSeek-page-fixed"
    old = row("ViDoSeek-page", "2.0")
    assert (old.repo, old.published, old.name) == ("VLM2Vec/ViDoSeek-page", "ViDoSeek-page", "ViDoSeek-page")
    assert (row("MomentSeeker").queries, row("MomentSeeker", "2.0").queries) == (1602, 1800)
    mmeb_folder.write(tmp_path, [old])
    assert load(old, data=tmp_path, revision="2.0", any_counts=True).about["revision"] == "2.0"
    with pytest.raises(DataError, match="no folder VLM2Vec/ViDoSeek-page-fixed"):
        load(row("ViDoSeek-page"), data=tmp_path, any_counts=True)


def test_what_lies_elsewhere_is_found(tmp_path: Path) -> None:
    """Repositories without their owner, media below their repository, folders in another case, tables of JSON lines."""
    for name in ("EgoSchema", "Charades-STA", "MSR-VTT"):
        mmeb_folder.write(tmp_path, [row(name)])
    want = {name: one(tmp_path, name) for name in ("EgoSchema", "Charades-STA", "MSR-VTT")}
    for name in want:
        mmeb_folder.as_json_lines(tmp_path, row(name), str(row(name).config) if row(name).config else None)
    shutil.move(tmp_path / "VLM2Vec" / "EgoSchema", tmp_path / "EgoSchema")
    frames = tmp_path / "video-tasks" / "frames"
    (frames / "video_qa" / "egoschema").rename(frames / "video_qa" / "EGOschema")
    (frames / "video_mret" / "Charades-STA").rename(frames / "video_mret" / "Charades_STA")
    (frames / "video_ret" / "MSR-VTT").mkdir()
    inner = frames / "video_ret" / "data" / "ziyan" / "video_retrieval" / "MSR-VTT" / "frames"
    inner.rename(frames / "video_ret" / "MSR-VTT" / "frames")
    home = tmp_path / "TIGER-Lab" / "MMEB-V2"
    home.mkdir(parents=True)
    (tmp_path / "video-tasks").rename(home / "video-tasks")
    for name, task in want.items():
        again = one(tmp_path, name)
        assert again.relevant == task.relevant
        assert [len(entry.video or ()) for entry in again.queries] == [len(entry.video or ()) for entry in task.queries]
        assert all(not entry.broken for entry in [*again.queries, *again.corpus])


def test_media_that_are_not_there(tmp_path: Path) -> None:
    for name in ("HMDB51", "QVHighlight", "VOC2007"):
        mmeb_folder.write(tmp_path, [row(name)])
    shutil.rmtree(tmp_path / "video-tasks/frames/video_cls/HMDB51/clip_0001")
    shutil.rmtree(tmp_path / "video-tasks/frames/video_mret/QVHighlight/DE34F_2.0_7.0")
    (tmp_path / "image-tasks/VOC2007/q1.jpg").unlink()
    given = tasks([row(name) for name in ("HMDB51", "QVHighlight", "VOC2007")], data=tmp_path, any_counts=True)
    report = evaluate(attached("qwen3_vl"), given)
    for result in report.results:
        assert list(result.missing_queries) == ["1"]
        assert result.predictions[1].value == 0.0
        assert any("count as misses" in warning for warning in result.warnings)
    assert list(report["QVHighlight"].missing_candidates) == ["DE34F_2.0_7.0/positive"]
    shutil.rmtree(tmp_path / "video-tasks/frames/video_cls/HMDB51")
    with pytest.raises(DataError, match=r"HMDB51: no media at .*video_cls/HMDB51; unpack"):
        one(tmp_path, "HMDB51")


def test_data_that_are_damaged_or_of_another_shape_do_not_stop_the_others(tmp_path: Path) -> None:
    rows = [row(name) for name in ("VOC2007", "HMDB51", "SUN397")]
    mmeb_folder.write(tmp_path, rows)
    mmeb_folder.table(tmp_path, rows[0], [{"qry_text": "no picture"}], "VOC2007")
    next((tmp_path / rows[1].repo).rglob("*.parquet")).write_bytes(b"PAR1")
    first, second, third = tasks(rows, data=tmp_path, any_counts=True)
    assert isinstance(first, Unloaded)
    assert isinstance(second, Unloaded)
    assert isinstance(third, Task)
    assert "VOC2007: its data are not as they should be (KeyError: 'qry_img_path')" in str(first.error)
    assert "HMDB51: its data are not as they should be (ArrowInvalid" in str(second.error)


def test_a_path_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    mmeb_folder.write(tmp_path, [row("VOC2007")])
    (tmp_path / "secret.jpg").write_bytes((tmp_path / "image-tasks/VOC2007/q0.jpg").read_bytes())
    file = tmp_path / row("VOC2007").repo / "VOC2007" / "test-00000-of-00001.parquet"
    mmeb_folder.as_json_lines(tmp_path, row("VOC2007"), "VOC2007")
    lines = [json.loads(line) for line in file.with_name("test.jsonl").read_text().splitlines()]
    lines[0]["qry_img_path"] = "../secret.jpg"
    file.with_name("test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    task = one(tmp_path, "VOC2007")
    assert task.queries[0].image is None
    assert "not there" in task.queries[0].broken


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "images"}, "did you mean 'image'"),
        ({"task": "I-CL"}, "did you mean 'I-CLS'"),
        ({"dataset": "voc2007"}, "there is none"),
        ({"revision": "2.1"}, "did you mean '2.0'"),
        ({"modality": "image", "task": "VD"}, "no data set fits"),
    ],
)
def test_a_selection_that_there_is_not(options: dict[str, str], message: str) -> None:
    with pytest.raises(BtoksError, match=message):
        select(**options)
