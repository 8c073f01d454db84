"""The published training sets, read from small folders of the same columns and layout."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import datasets
import pytest
from datasets import Dataset, Features, Value

from btoks.errors import BtoksError
from btoks.training.data import Mixture, Set
from btoks.training.hub import ColPali, LlavaHound, Mmeb, Streamed, VisRag
from btoks.training.sampler import Place
from items import picture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(seed: int) -> dict[str, Any]:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{seed}.png"}


def parquet(path: Path, rows: list[dict[str, Any]], *, image: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = None
    if image:
        features = Features({key: Value("string") for key in rows[0]} | {"image": datasets.Image()})
    Dataset.from_list(rows, features=features).to_parquet(path)


def items(reader: Any, data: Path, number: int = 0) -> dict[str, Any]:
    return Mixture((Set("set", reader),), data)[Place(0, number, 0)]


def test_mmeb_train(tmp_path: Path) -> None:
    home = tmp_path / "MMEB-train"
    (home / "images/WebQA/Train").mkdir(parents=True)
    picture(1).save(home / "images/WebQA/Train/1.png")
    shown = "<|image_1|>\nRepresent the given Wikipedia image with related text information: a fox\n"
    rows = [
        {"qry": "<|image_1|>\nFind a Wikipedia image that answers this question: who?\n", "qry_image_path": ""}
        | {"pos_text": shown, "pos_image_path": "images/WebQA/Train/1.png", "neg_text": "x", "neg_image_path": ""},
        {"qry": "", "qry_image_path": "", "pos_text": "a", "pos_image_path": "", "neg_text": "", "neg_image_path": ""},
        {
            "qry": "second\n",
            "qry_image_path": "",
            "pos_text": "b\n",
            "pos_image_path": "",
            "neg_text": "",
            "neg_image_path": "",
        },
    ]
    parquet(home / "WebQA" / "original-00000-of-00001.parquet", rows)
    parquet(home / "WebQA" / "diverse_instruction-00000-of-00001.parquet", rows[:1])
    row = items(Mmeb("WebQA"), tmp_path)
    assert row["items"]["query"] == {"text": "Find a Wikipedia image that answers this question: who?"}
    assert (
        row["items"]["positive"]["text"] == "Represent the given Wikipedia image with related text information: a fox"
    )
    assert row["items"]["positive"]["image"].size == picture(1).size
    assert row["id"] == "WebQA:0"
    assert items(Mmeb("WebQA"), tmp_path, 1)["id"] == "WebQA:2", "rows without text and image are left out"
    assert len(Mmeb("WebQA").open(tmp_path)) == 3
    assert len(Mmeb("WebQA", rows=2).open(tmp_path)) == 2
    assert len(Mmeb("WebQA", split="diverse_instruction").open(tmp_path)) == 1


def test_a_set_that_is_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "MMEB-train").mkdir()
    with pytest.raises(
        BtoksError, match=r"TIGER-Lab/MMEB-train WebQA: it cannot be opened .*; put its parquet files below"
    ):
        Mmeb("WebQA").open(tmp_path)


@pytest.mark.parametrize("mode", ["caption", "video", "qa"])
def test_llava_hound(tmp_path: Path, mode: str) -> None:
    home = tmp_path / "train_video_and_instruction"
    for number in range(10):
        file = home / f"train_300k/v_1/c01_{number:04d}.jpeg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    turns = [{"from": "human", "value": "<video>\nWhat happens?"}, {"from": "gpt", "value": "A fox runs."}]
    rows = [{"id": "a", "video": "v_1", "conversations": turns}, {"id": "b", "video": "gone", "conversations": turns}]
    table = home / "video_instruction/train/sft"
    table.mkdir(parents=True)
    name = "video_240k_caption_15k.jsonl" if mode == "qa" else "video_caption_300k.jsonl"
    (table / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = items(LlavaHound(mode), tmp_path)
    seen, told = (row["items"][side] for side in (("positive", "query") if mode == "video" else ("query", "positive")))
    assert len(seen["video"]["array"]) == 8
    assert seen.get("text") == (None if mode == "video" else "What happens?")
    assert told == {"text": "A fox runs."}
    assert "no frames" in items(LlavaHound(mode), tmp_path, 1)["broken"][0]


def test_colpali(tmp_path: Path) -> None:
    common = {"image_filename": "", "source": "pdf", "page": "", "model": "", "prompt": "long", "answer_type": ""}
    options = "['A. a fox', 'B. a bus', 'C) a house']"
    rows = [
        {"image": png(1), "query": "who?", "answer": "the fox", "options": None, **common},
        {"image": png(2), "query": "which?", "answer": "B", "options": options, **common},
        {"image": png(3), "query": "which?", "answer": "Z", "options": options, **common},
    ]
    parquet(tmp_path / "colpali_train_set" / "data" / "train-00000.parquet", rows, image=True)
    first, second, third = (items(ColPali(), tmp_path, number)["items"] for number in range(3))
    assert first["query"]["text"] == "who?"
    assert first["query"]["image"].size == picture(1).size
    assert first["positive"] == {"text": "the fox"}
    assert second["query"]["text"] == f"which? Options: {options}"
    assert second["positive"] == {"text": "a bus"}
    assert third["positive"] == {"text": "Z"}


def test_visrag(tmp_path: Path) -> None:
    rows = [{"query": "how many?", "image": png(1), "source": name} for name in ("ArxivQA", "a new source")]
    parquet(tmp_path / "VisRAG-Ret-Train-In-domain-data" / "data" / "train-0.parquet", rows, image=True)
    first, second = (items(VisRag(), tmp_path, number)["items"] for number in range(2))
    assert first["query"]["text"].startswith("This query is related to retrieving a relevant figure")
    assert first["query"]["text"].endswith("address the query: how many?")
    assert first["positive"]["text"] == "A figure from a research paper, including plots or experimental results."
    assert second["query"] == {"text": "how many?"}
    assert set(second["positive"]) == {"image"}


def test_a_stream_is_read_forwards_and_begun_anew() -> None:
    stream = Streamed([{"n": number} for number in range(5)], 5)
    assert [stream[number]["n"] for number in (0, 1, 4, 2, 3, 3)] == [0, 1, 4, 2, 3, 3]
    assert len(stream) == 5
    with pytest.raises(BtoksError, match="it ends before row 7"):
        Streamed([1, 2], 9)[7]
