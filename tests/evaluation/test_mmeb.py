"""All 78 data sets, in their true layout, through the whole evaluation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from btoks.evaluation import Report, Task, evaluate
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
