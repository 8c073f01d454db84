"""Rows from local records: JSON lines whose sides name their media by path.

    {"id", "query": {"text", "image", "video"}, "positives": [{"text", "image", "video", "page"}], "split",
     "candidates": […], "task", "meta_task", "pool"}

A path is relative to the records' folder; `video` is a file or a list of frames; an `image` may have a `box`, a `page`
may be a picture or a PDF with its `number`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.media import Source
from btoks.training.layers import layers, objects
from btoks.training.rows import Ref, Row, Rows, Side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Records:
    """The records of a folder's `records.jsonl`: those of a split, and of a task, meta-task or pool if one is named.

    Of several positives each pass takes the next. Up to `negatives` candidates that are no positives go along. With
    `layers` a page has its text beside its picture.

    >>> Records("flags", meta_task="image_ret").open(Path("data"))  # doctest: +SKIP
    """

    folder: str
    split: str = "train"
    task: str | None = None
    meta_task: str | None = None
    pool: str | None = None
    negatives: int = 0
    layers: bool = False

    def open(self, data: Path | None) -> Rows:
        """Read the records; nothing they name is opened."""
        home = found(data, self.folder)
        file = home / "records.jsonl"
        kept = [record for record in _lines(file) if self._wanted(record)]
        if not kept:
            wanted = ", ".join(each for each in (self.split, self.task, self.meta_task, self.pool) if each)
            raise BtoksError(str(file), f"no record of {wanted}", "choose another split or task")
        return _Records(home, kept, self.negatives, layers(home) if self.layers else {})

    def _wanted(self, record: Mapping[str, Any]) -> bool:
        wanted = {"split": self.split, "task": self.task, "meta_task": self.meta_task, "pool": self.pool}
        return all(value is None or record.get(key) == value for key, value in wanted.items())


@dataclass(frozen=True)
class Given:
    """Rows that are there already.

    >>> len(Given([Row("1", {"text": "a question"}, {"text": "its answer"})]).open(None))
    1
    """

    rows: Sequence[Row]

    def open(self, _: Path | None) -> Rows:
        """The rows themselves."""
        return _Given(self.rows)


def found(data: Path | None, folder: str) -> Path:
    """A folder below the data folder; an error in one line if either is missing."""
    if data is None:
        raise BtoksError(f"data set {folder!r}", "no data folder is known", "set BTOKS_DATA or the recipe's data")
    home = data / folder
    if not home.is_dir():
        raise BtoksError(str(home), "there is no such folder", "set BTOKS_DATA to the folder that holds it")
    return home


def side_of(given: Mapping[str, Any], home: Path, layers: Mapping[str, str]) -> Side:
    """A side as the records write it, with its media as references, and with the text of its page if that is known."""
    side: Side = {key: given[key] for key in ("text", "context") if given.get(key)}
    box = given.get("box")
    if given.get("image"):
        side["image"] = Ref(Source(home / given["image"]), tuple(box) if box else None)
    if given.get("page"):
        side["image"] = Ref(Source(home / given["page"], page=given.get("number")))
        text = layers.get(Path(given["page"]).stem)
        side |= {"text": text} if text else {}
    if given.get("video"):
        clip = given["video"]
        side["video"] = Ref(Source([home / each for each in clip] if isinstance(clip, list) else home / clip))
    return side


class _Records:
    def __init__(self, home: Path, records: list[dict[str, Any]], negatives: int, layers: Mapping[str, str]) -> None:
        self.home, self.records, self.negatives, self.layers = home, records, negatives, layers

    def __len__(self) -> int:
        return len(self.records)

    def row(self, number: int, passed: int) -> Row:
        record = self.records[number]
        positives = record["positives"]
        return Row(
            str(record["id"]),
            self._side(record["query"]),
            self._side(positives[passed % len(positives)]),
            tuple(self._side(each) for each in self._wrong(record, passed)),
        )

    def _side(self, given: Mapping[str, Any]) -> Side:
        return side_of(given, self.home, self.layers)

    def _wrong(self, record: Mapping[str, Any], passed: int) -> list[Mapping[str, Any]]:
        """Each pass takes the next of them, so that all are seen."""
        if not self.negatives:
            return []
        wrong = [each for each in record.get("candidates") or [] if each not in record["positives"]]
        if not wrong:
            raise BtoksError(str(record["id"]), "no candidate is wrong", "read the data set without negatives")
        first = passed * self.negatives
        return [wrong[(first + offset) % len(wrong)] for offset in range(self.negatives)]


class _Given:
    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int, _: int) -> Row:
        return self.rows[number]


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return objects(file)
    except OSError as error:
        raise BtoksError(str(file), "it cannot be read", "set BTOKS_DATA to the folder that holds it") from error
    except ValueError as error:
        raise BtoksError(str(file), f"not JSON lines ({error})", "mend it") from error
