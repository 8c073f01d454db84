"""All 78 data sets, in their true layout, through the whole evaluation."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from btoks.errors import BtoksError
from btoks.evaluation import DataError, Report, Task, evaluate
from btoks.evaluation.mmeb import registry
from btoks.evaluation.mmeb.registry import Row, select
from btoks.evaluation.mmeb.tasks import load, tasks
from btoks.evaluation.run import Unloaded
from evaluation import mmeb_folder
from items import attached

NAMES = [row.name for row in registry.table()]


def row(name: str, revision: str = "fixed") -> Row:
    (found,) = select(dataset=name, revision=revision)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mmeb_folder.write(tmp_path_factory.mktemp("mmeb"), registry.table())


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Task | Unloaded]:
    return {task.name: task for task in tasks(select(), data=folder, any_counts=True)}


@pytest.fixture(scope="module")
def report(found: dict[str, Task | Unloaded]) -> Report:
    return evaluate(attached("qwen3_vl"), found.values(), on_error="skip")


def one(folder: Path, name: str, **options: Any) -> Task:
    return load(row(name), data=folder, any_counts=True, **options)


def test_the_table_has_the_shape_of_the_benchmark() -> None:
    rows = registry.table()
    assert Counter(each.modality for each in rows) == {"image": 36, "video": 18, "visdoc": 24}
    counts = {"I-CLS": 10, "I-QA": 10, "I-RET": 12, "I-VG": 4, "V-CLS": 5, "V-QA": 5, "V-RET": 5, "V-MR": 3, "VD": 24}
    assert Counter(each.meta_task for each in rows) == counts
    assert Counter(each.group for each in rows if each.group) == {
        "ViDoRe-V1": 10,
        "ViDoRe-V2": 4,
        "VisRAG": 6,
        "OOD": 4,
    }
    assert len(set(NAMES)) == len({each.published for each in rows}) == 78
    assert {each.metric for each in rows if each.modality == "visdoc"} == {"ndcg_linear@5"}
    assert {each.metric for each in rows if each.modality != "visdoc"} == {"hit@1"}
    lists = {name: len(labels) for name, labels in registry.labels().items()}
    assert lists == {"Breakfast": 10, "K700": 700, "UCF101": 101, "HMDB51": 51}
    assert all(row(name).corpus == count for name, count in lists.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_way(name: str, found: dict[str, Task | Unloaded], report: Report) -> None:
    task = found[name]
    assert isinstance(task, Task), task.error
    result = report[name]
    assert (len(result.predictions), result.candidates) == (len(task.queries), len(task.corpus))
    assert 0.0 <= result.score <= 1.0
    assert not result.missing_queries
    assert not result.missing_candidates
    assert all(prompt.endswith("<|btok_3|>") for prompt in result.prompts.values())
    assert result.about["official"] is False
    assert result.about["data"]["repo"] == row(name).repo
    assert all(len(key) == 16 for key in result.about["data"]["content"].values())


def test_local_sets_rank_their_own_list_and_global_ones_everything(found: Any, report: Report) -> None:
    for name, task in found.items():
        for prediction in report[name].predictions:
            want = [entry.id for entry in task.corpus] if task.candidates is None else task.candidates[prediction.query]
            assert sorted(prediction.ranking) == sorted(want)[: len(prediction.ranking)] or len(want) > 100
            assert len(prediction.ranking) == min(len(want), 100)


def test_picture_rows(folder: Path) -> None:
    task = one(folder, "VOC2007")
    assert [list(task.relevant[query]) for query in ("0", "1")] == [["kite"], ["lamp"]]
    assert task.candidates == {"0": ["kite", "lamp", "boat"], "1": ["lamp", "boat", "kite"]}
    assert len(task.corpus) == 3
    task = one(folder, "RefCOCO-Matching")
    assert task.candidates is not None
    assert task.candidates["0"] == [f"RefCOCO-Matching/0.jpg:caption {place}" for place in range(3)]
    assert {entry.text for entry in task.corpus} == {f'"caption {place}"' for place in range(3)}
    task = one(folder, "MSCOCO_t2i")
    assert task.queries[0].image is None
    assert {entry.text for entry in task.corpus} == {""}
    assert [entry.id for entry in task.corpus] == [f"MSCOCO_t2i/{place}.jpg" for place in range(3)]
    assert one(folder, "WebQA").queries[0].instruction == "Find a Wikipedia image that answers this question:"


@pytest.mark.parametrize(
    ("name", "question", "texts", "right"),
    [
        ("MVBench", "How many times?\nOptions:\n(A) 1\n(B) 2\n(C) 3", ["(A) 1", "(B) 2", "(C) 3"], "(B) 2"),
        (
            "Video-MME",
            "What is on the table?\nA. Apples.\nB. Bread.\nC. Cups.\nD. Nothing.",
            ["Apples", "Bread", "Cups", "Nothing"],
            "C. Cups.",
        ),
        (
            "NExTQA",
            "why did she stop\nOptions:\n(A) rain\n(B) tired\n(C) phone\n(D) dog\n(E) bus",
            ["rain", "tired", "phone", "dog", "bus"],
            "phone",
        ),
        (
            "EgoSchema",
            "What is the aim?A. C cooks. B. C sews. C. C reads. D. C paints. E. C walks.",
            ["C cooks", "C sews", "C reads", "C paints", "C walks"],
            "D. C paints.",
        ),
        ("ActivityNetQA", "is it indoors? (A) yes; (B) no.", ["yes", "no"], "yes"),
    ],
)
def test_questions_and_options(name: str, question: str, texts: list[str], right: str, folder: Path) -> None:
    task = one(folder, name)
    assert task.queries[0].text == question
    assert task.queries[0].instruction.endswith("Question: ")
    assert task.candidates is not None
    known = {entry.id: entry.text for entry in task.corpus}
    assert [known[each] for each in task.candidates["0"]] == texts
    assert list(task.relevant["0"]) == [right]


def test_twenty_configurations_are_one_data_set(folder: Path) -> None:
    task = one(folder, "MVBench")
    assert len(task.queries) == 20
    folders = [Path(entry.video[0]).parent for entry in task.queries]
    assert [each.parent.name for each in folders] == row("MVBench").config
    assert {each.name for each in folders} == {"m1.mp4"}


def test_videos_and_their_frames(folder: Path) -> None:
    task = one(folder, "HMDB51")
    shown = [[Path(frame).name for frame in entry.video] for entry in task.queries]
    assert shown[0] == [f"frame_{number:04d}.jpg" for number in (1, 10, 19, 28, 37, 46, 55, 64)]
    assert shown[1] == [f"frame_{number:04d}.jpg" for number in range(1, 6)]
    assert len(one(folder, "HMDB51", frames=3).queries[0].video) == 3
    assert [entry.id for entry in one(folder, "DiDeMo").corpus] == ["1_clip", "2_clip"]
    assert one(folder, "MSVD").queries[0].text == "caption 1"
    assert [entry.text for entry in one(folder, "SmthSmthV2").corpus][:2] == ["holding a pen", "dropping a pen"]


def test_clips(folder: Path) -> None:
    task = one(folder, "Charades-STA")
    assert task.candidates is not None
    assert len(task.candidates["0"]) == 10
    assert list(task.relevant["1"]) == ["DE34F_2.0_7.0/positive_clip"]
    assert Path(task.queries[0].video[0]).parts[-3:-1] == ("AB12C_0.0_9.5", "query")
    task = one(folder, "MomentSeeker")
    assert [(entry.video is not None, entry.image is not None) for entry in task.queries] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert list(task.relevant["1"]) == ["videos_k8_0.0_3.0", "videos_k7_5.0_8.0"]
    assert task.candidates["1"][-1] == "videos_k9_1.0_4.0"
    assert len({entry.instruction for entry in task.queries}) == 3
    assert len(task.corpus) == 3


@pytest.mark.parametrize("name", ["ViDoRe_arxivqa", "VisRAG_ChartQA", "ViDoRe_esg_reports_v2_multilingual"])
def test_pages(name: str, folder: Path) -> None:
    task = one(folder, name)
    ids = [entry.id for entry in task.corpus]
    assert len(ids) == 4
    assert ids[0] == ("page_0.png" if name.startswith("VisRAG") else "10")
    gains = [{ids.index(page): gain for page, gain in task.relevant[query.id].items()} for query in task.queries]
    assert gains == [{0: 3.0, 1: 2.0}, {2: 3.0}]
    in_order = [entry.image for entry in task.corpus]
    assert len(set(in_order)) == 4
    assert [task.corpus[place].image for place in (3, 0, 2, 1)] == [in_order[place] for place in (3, 0, 2, 1)]


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
