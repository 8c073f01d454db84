"""Rows made without end: the same for the same seed and pass, true to what they are made from."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from btoks.errors import BtoksError
from btoks.media import Source, load
from btoks.training.layers import layers, text_of
from btoks.training.readers import Given, Records
from btoks.training.rows import Change, Ref, Row, decoded, fingerprint
from btoks.training.shapes import COLOURS, NUMBERS, Shapes
from btoks.training.variety import Halves, Sentences, Varied
from items import picture
from training import records

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = (
    "The harbour was built long ago.",
    "Its walls are made of grey stone.",
    "Ships come in with the tide.",
)
TEXT = " ".join(SENTENCES)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    home = tmp_path / "book"
    home.mkdir()
    for name in ("one", "two", "unseen"):
        picture(3).save(home / f"{name}.png")
    rows = [
        {
            "id": name,
            "meta_task": "visdoc",
            "split": split,
            "query": {"text": "?"},
            "positives": [{"page": f"{name}.png"}],
        }
        for name, split in (("one", "train"), ("two", "train"), ("one", "train"), ("unseen", "test"))
    ]
    records.lines(home, rows)
    lines = [
        {"id": "one", "title": "Harbour", "body": TEXT},
        {"id": "unseen", "title": "", "body": "nothing of it"},
    ]
    (home / "pages_a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    table = {"id": "two", "title": "Tides", "header": ["Port", "m"], "rows": [["Brest", 7], ["Dover", 6]]}
    (home / "tables.jsonl").write_text(json.dumps(table) + "\n")
    return tmp_path


def pixels(ref: Ref, budget: int | None = None) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(decoded({"image": ref}, load, budget)["image"])


def test_a_pages_text_layer_stands_beside_its_picture(pages: Path) -> None:
    rows = Records("book", layers=True).open(pages)
    assert rows.row(0, 0).positive["text"] == f"Harbour\n{TEXT}"
    assert rows.row(1, 0).positive["text"] == "Tides\nPort | m\nBrest | 7\nDover | 6"
    assert "text" not in Records("book").open(pages).row(0, 0).positive
    assert text_of({"title": "", "body": "x"}) == "x"


def test_a_folder_without_text_layers_is_told(data: Path) -> None:
    with pytest.raises(BtoksError, match="no text layer"):
        layers(data / "pages")


def test_varied_rows_depend_on_seed_row_and_pass_alone(data: Path) -> None:
    rows = Varied(Records("things", task="cls"), crop=0.5, tint=0.3).open(data)
    other = Varied(Records("things", task="cls"), crop=0.5, tint=0.3, seed=1).open(data)
    first = rows.row(2, 0).query["image"]
    assert rows.row(2, 0).query["image"] == first
    assert (
        len({rows.row(2, 1).query["image"], rows.row(3, 0).query["image"], other.row(2, 0).query["image"], first}) == 4
    )
    assert fingerprint(rows.row(2, 0).query) == fingerprint(rows.row(2, 1).query)


def test_without_crop_and_tint_a_picture_stays_as_it_is(data: Path) -> None:
    plain, same = Records("things", task="cls"), Varied(Records("things", task="cls"), crop=1.0, tint=0.0)
    for number in range(4):
        ours, theirs = (each.open(data).row(number, 1).query["image"] for each in (same, plain))
        assert np.array_equal(pixels(ours), pixels(theirs))
        assert np.array_equal(pixels(ours, 900), pixels(theirs, 900))


def test_a_change_takes_its_part_and_its_light(tmp_path: Path) -> None:
    board = Image.new("RGB", (40, 20), (200, 0, 0))
    board.paste((0, 0, 100), (20, 0, 40, 20))
    source = Source(board)
    assert np.array_equal(pixels(Ref(source, change=Change((0.5, 0.0, 0.5)))), np.full((10, 20, 3), (0, 0, 100)))
    darker = pixels(Ref(source, change=Change(light=(0.5, 1.0, 1.0))))
    assert tuple(darker[0, 0]) == (100, 0, 0)
    small = Ref(Source(Image.new("RGB", (1, 1))), change=Change((0.3, 0.3, 0.01)))
    assert pixels(small).shape == (1, 1, 3)


def test_a_picture_on_both_sides_keeps_its_places(data: Path) -> None:
    rows = Varied(Records("things", task="vg", negatives=1), crop=0.3, tint=0.2).open(data)
    for number in range(len(rows)):
        row = rows.row(number, 0)
        for side in (row.query, row.positive, *row.negatives):
            assert side["image"].change.part == (0.0, 0.0, 1.0)


def test_frames_are_left_out_in_their_order(data: Path) -> None:
    rows = Varied(Records("clips")).open(data)
    plain = Records("clips").open(data)
    seen: Counter[int] = Counter()
    for passed in range(20):
        every = plain.row(0, 0).query["video"].source.uri
        kept = rows.row(0, passed).query["video"].source.uri
        places = [every.index(frame) for frame in kept]
        assert places == sorted(set(places))
        seen[len(kept)] += 1
    assert set(seen) == {4, 5}


@pytest.mark.parametrize("wrong", [{"crop": 0.0}, {"crop": 1.1}, {"tint": -0.1}, {"tint": 1.0}])
def test_shares_that_are_none_are_refused(data: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(BtoksError, match="no shares"):
        Varied(Records("things"), **wrong).open(data)  # type: ignore[arg-type]


def test_a_page_is_found_by_one_of_its_sentences(pages: Path) -> None:
    rows = Sentences("book").open(pages)
    assert len(rows) == 2
    sentences = set()
    for passed in range(30):
        row = rows.row(0, passed)
        words, page = row.query["text"].split(), f"Harbour\n{TEXT}"
        assert row.positive["image"].source.uri.name == "one.png"
        inside = [each for each in SENTENCES if set(words) <= set(each.split())]
        assert inside
        sentences.add(inside[0])
        if passed % 2:
            assert inside[0] not in row.positive["text"]
            assert len(row.positive["text"]) < len(page)
        else:
            assert row.positive["text"] == page
    assert len(sentences) == 3


def test_halves_keep_words_in_their_order() -> None:
    texts = [TEXT, "too short", "another text of six words"]
    given = Given([Row(str(at), {"text": text}, {"text": TEXT}) for at, text in enumerate(texts)])
    rows = Halves((given,)).open(None)
    assert len(rows) == 2
    for number in range(2):
        for passed in range(10):
            row = rows.row(number, passed)
            whole, kept = row.positive["text"].split(), row.query["text"].split()
            rest = iter(whole)
            assert all(word in rest for word in kept)
            assert len(kept) >= round(0.4 * len(whole))
    assert rows.row(0, 0).query != rows.row(0, 1).query
    with pytest.raises(BtoksError, match="no text has 4 to 40 words"):
        Halves((Given([Row("a", {"text": "a fox"}, {"text": "it"})]),)).open(None)


def counted(png: bytes, colour: tuple[int, int, int]) -> int:
    """Connected patches of a colour, counted one pixel after the other."""
    left = {(int(x), int(y)) for y, x in np.argwhere((np.asarray(Image.open(io.BytesIO(png))) == colour).all(axis=2))}
    patches = 0
    while left:
        patches += 1
        edge = [left.pop()]
        while edge:
            x, y = edge.pop()
            near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & left
            left -= near
            edge += near
    return patches


def test_the_shapes_are_as_many_and_as_coloured_as_is_said() -> None:
    """Neighbours may touch, which merges two patches: never more than are told, and mostly just as many."""
    tell, count, colour = (Shapes(task, 40).open(None) for task in ("tell", "count", "colour"))
    exact = 0
    for number in range(40):
        row = tell.row(number, 0)
        wanted: Counter[str] = Counter()
        for group in row.positive["text"].split(" and "):
            many, name, _ = group.split()
            wanted[name] += NUMBERS.index(many)
        found = {name: counted(row.query["image"].source.uri, COLOURS[name]) for name in wanted}
        assert all(0 < found[name] <= many for name, many in wanted.items())
        exact += found == dict(wanted)
        row = count.row(number, 0)
        assert counted(row.query["image"].source.uri, COLOURS[row.query["text"].split()[2]]) > 0
        assert row.positive["text"] in NUMBERS[1:]
        row = colour.row(number, 0)
        assert counted(row.query["image"].source.uri, COLOURS[row.positive["text"]]) > 0
    assert exact >= 32


def test_every_pass_draws_new_shapes() -> None:
    rows = Shapes("find", 5).open(None)
    assert rows.row(1, 0) == rows.row(1, 0)
    assert rows.row(1, 0).positive != rows.row(1, 1).positive
    with pytest.raises(BtoksError, match="there is none"):
        Shapes("sing").open(None)
