"""Datasets of the `datasets` library as input: pictures, texts and labels in rows, in the hub's layout or saved."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import datasets
import pytest

from btoks.errors import BtoksError
from btoks.library import Library
from items import picture
from library.stored import contents
from media import samples

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS = ["a red fox", "two people", "the station"]


def made(rows: range = range(3)) -> datasets.Dataset:
    """Pictures with a caption, a class and a number, under names of their own."""
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["animal", "human", "place"]),
            "Stars": datasets.Value("int64"),
            "tags": datasets.List(datasets.Value("string")),
        }
    )
    columns: dict[str, Any] = {
        "photo": [{"bytes": samples.image_bytes(picture(row), "PNG"), "path": None} for row in rows],
        "caption": [CAPTIONS[row % 3] for row in rows],
        "label": [row % 3 for row in rows],
        "Stars": list(rows),
        "tags": [["x"] for _ in rows],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def in_hub_layout(folder: Path, rows: range = range(3)) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    made(rows).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    made(range(7, 8)).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    return folder


def saved(folder: Path) -> Path:
    datasets.DatasetDict({"train": made(), "test": made(range(7, 8))}).save_to_disk(str(folder))
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path) -> Library:
    return Library.create(tmp_path / "library", model=model)


@pytest.mark.parametrize("form", [in_hub_layout, saved])
def test_rows_are_found_by_picture_and_text_and_filtered(library: Library, tmp_path: Path, form: Any) -> None:
    folder = form(tmp_path / "dataset")
    report = library.add(f"hf://{folder}:train")
    assert (report.embedded, report.errors) == (3, [])
    rows = contents(library).values()
    assert {(row["kind"], row["text"], row["label"], row["stars"]) for row in rows} == {
        ("image", "a red fox", "animal", 0),
        ("image", "two people", "human", 1),
        ("image", "the station", "place", 2),
    }
    hits = library.search({"image": picture(1), "text": "two people"}, k=1, min_score=0, where="label <> 'place'")
    assert hits[0].text == "two people"
    found = library.ask("who?", where="label = 'human'", min_score=0, max_new_tokens=1)
    assert ([hit.text for hit in found.sources], found.unread) == (["two people"], [])
    report = library.add(folder)
    assert (report.embedded, report.errors, report.files) == (1, [], 2)


def test_only_new_rows_are_embedded(library: Library, tmp_path: Path) -> None:
    folder = in_hub_layout(tmp_path / "dataset")
    assert library.add(folder).embedded == 4
    in_hub_layout(folder, range(1, 6))
    assert library.add(folder).embedded == 3
    assert {row["stars"] for row in contents(library).values()} == {1, 2, 3, 4, 5, 7}


def test_a_dataset_of_the_hub_is_taken_from_its_cache(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, revision = tmp_path / "hub", "0" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    held = cache / "datasets--some--pictures"
    in_hub_layout(held / "snapshots" / revision)
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text(revision)
    assert library.add("hf://some/pictures:test").embedded == 1
    assert library.add("hf://some/pictures").embedded == 3
    with pytest.raises(BtoksError, match="it has no split 'tset'; did you mean 'test'"):
        library.add("hf://some/pictures:tset")
    with pytest.raises(BtoksError, match="hf://some/others: the hub did not give it"):
        library.add("hf://some/others")


def test_a_damaged_arrow_file_is_named(library: Library, tmp_path: Path) -> None:
    folder = saved(tmp_path / "dataset")
    (file,) = (folder / "train").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-600])
    report = library.add(folder)
    assert len(report.errors) == 1
    assert "the table cannot be read further" in str(report.errors[0])


def test_texts_that_a_dataset_does_not_describe_keep_their_names(library: Library, tmp_path: Path) -> None:
    data = io.BytesIO()
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"caption": ["a note"], "text": ["the text"]}), data)
    (tmp_path / "t.parquet").write_bytes(data.getvalue())
    library.add(tmp_path / "t.parquet")
    (row,) = contents(library).values()
    assert (row["text"], row["caption"]) == ("the text", "a note")
