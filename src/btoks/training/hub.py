"""Rows of the published training sets: MMEB-train, LLaVA-Hound, ColPali and VisRAG.

Each is read from a folder of the same layout below the data folder if there is one, else from the hub; pictures and
frames that the hub keeps in archives must lie unpacked. Texts follow the public BToks code: visuals first, no
placeholders, options and answers of multiple-choice questions written out.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.media import Source
from btoks.training.readers import found
from btoks.training.rows import Ref, Row, Rows, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MMEB, _HOUND = "TIGER-Lab/MMEB-train", "ShareGPTVideo/train_video_and_instruction"
_COLPALI, _VISRAG = "vidore/colpali_train_set", "openbmb/VisRAG-Ret-Train-In-domain-data"
_PLACEHOLDER = re.compile(r"^<\|image_1\|>\s*")
_LETTER = re.compile(r"^\(?([A-Z])[.):]\s*")


@dataclass(frozen=True)
class Mmeb:
    """One of MMEB-train's twenty sets; `rows` takes the first so many, `stream` reads them as they come.

    Pictures are sought at `MMEB-train/images/…`, as the archives in the repository unpack.
    """

    config: str
    rows: int | None = None
    split: str = "original"
    stream: bool = False

    def open(self, data: Path | None) -> Rows:
        """Find the table and the pictures."""
        home = found(data, "MMEB-train")
        table = _table(data, _MMEB, self.config, self.split, self.rows, stream=self.stream)

        def row(number: int, given: Mapping[str, Any]) -> Row:
            query, positive = (_fused(given, key, home) for key in ("qry", "pos"))
            return Row(f"{self.config}:{number}", query, positive)

        return _Table(table, row)


@dataclass(frozen=True)
class LlavaHound:
    """Video captions and questions: `caption` (video → caption), `video` (caption → video) or `qa`.

    Frames are sought at `train_video_and_instruction/train_300k/<video>/`.
    """

    mode: str = "caption"
    rows: int | None = None

    def open(self, data: Path | None) -> Rows:
        """Find the conversations and the frames."""
        home = found(data, _HOUND.partition("/")[2])
        name = "video_240k_caption_15k.jsonl" if self.mode == "qa" else "video_caption_300k.jsonl"
        file = home / "video_instruction/train/sft" / name
        if not file.is_file():
            raise BtoksError(str(file), "there is no such file", f"download it from {_HOUND}")

        def row(_: int, given: Mapping[str, Any]) -> Row:
            asked, told = (turn["value"].replace("<video>", "").strip() for turn in given["conversations"][:2])
            frames = sorted((home / "train_300k" / given["video"]).glob("*.jp*g"))
            if not frames:
                raise BtoksError(given["video"], "it has no frames", "unpack its archive")
            video, caption = {"video": Ref(Source(list(frames)))}, {"text": told}
            if self.mode == "video":
                return Row(str(given["id"]), caption, dict(video))
            return Row(str(given["id"]), {**video, "text": asked}, caption)

        return _Table(_loaded("json", [file], self.rows), row)


@dataclass(frozen=True)
class ColPali:
    """Questions on document pages: page and question → answer."""

    rows: int | None = None
    stream: bool = False

    def open(self, data: Path | None) -> Rows:
        """Find the table, which holds the pages."""
        table = _table(data, _COLPALI, None, "train", self.rows or 118_195, stream=self.stream)

        def row(number: int, given: Mapping[str, Any]) -> Row:
            asked, answer = _multiple_choice(given)
            return Row(f"colpali:{number}", {"image": _embedded(given["image"]), "text": asked}, {"text": answer})

        return _Table(table, row)


@dataclass(frozen=True)
class VisRag:
    """Questions and the page that answers them; each source has instructions of its own."""

    rows: int | None = None
    stream: bool = False

    def open(self, data: Path | None) -> Rows:
        """Find the table, which holds the pages."""
        prompts = json.loads(Path(__file__).with_name("visrag.json").read_text(encoding="utf-8"))
        table = _table(data, _VISRAG, None, "train", self.rows or 122_752, stream=self.stream)

        def row(number: int, given: Mapping[str, Any]) -> Row:
            asked, shown = prompts.get(given["source"], ("", ""))
            page: Side = {"image": _embedded(given["image"])}
            return Row(f"visrag:{number}", {"text": asked + given["query"]}, {**page, "text": shown} if shown else page)

        return _Table(table, row)


class _Table:
    """A table of `datasets` as rows."""

    def __init__(self, table: Any, row: Callable[[int, Mapping[str, Any]], Row]) -> None:
        self.table, self._row = table, row

    def __len__(self) -> int:
        return len(self.table)

    def row(self, number: int, _: int) -> Row:
        return self._row(number, self.table[number])


class Streamed:
    """A streamed table of known length: rows are read forwards, and a step back begins anew."""

    def __init__(self, stream: Any, length: int) -> None:
        self.stream, self.length = stream, length
        self._rows: Iterator[Any] = iter(())
        self._next = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Any:
        if number < self._next:
            self._rows, self._next = iter(self.stream), 0
        for each in self._rows:
            self._next += 1
            if self._next > number:
                return each
        raise BtoksError("streamed data set", f"it ends before row {number}", "tell its true number of rows")


def _table(data: Path | None, repo: str, config: str | None, split: str, rows: int | None, *, stream: bool) -> Any:
    """Parquet files below the data folder where they lie as on the hub, else the hub's."""
    from datasets.load import load_dataset

    home = None if data is None else data / repo.partition("/")[2]
    files = sorted(home.glob(f"**/{config}/{split}*.parquet" if config else f"**/{split}*.parquet")) if home else []
    if files:
        return _loaded("parquet", files, rows)
    try:
        if stream and rows:
            return Streamed(_undecoded(load_dataset(repo, config, split=split, streaming=True)), rows)
        table = load_dataset(repo, config, split=split)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        way_out = f"put its parquet files below {home or 'the data folder'}, or go online"
        raise BtoksError(f"{repo} {config or ''}".strip(), f"it cannot be opened ({reason})", way_out) from error
    return _first(_undecoded(table), rows)


def _loaded(kind: str, files: list[Path], rows: int | None) -> Any:
    from datasets.load import load_dataset

    return _first(_undecoded(load_dataset(kind, data_files=[str(file) for file in files], split="train")), rows)


def _first(table: Any, rows: int | None) -> Any:
    return table if rows is None or rows >= len(table) else table.select(range(rows))


def _undecoded(table: Any) -> Any:
    """Pictures stay bytes until the row is needed."""
    from datasets import Image

    features = table.features or {}
    for name, kind in features.items():
        if isinstance(kind, Image):
            table = table.cast_column(name, Image(decode=False))
    return table


def _fused(given: Mapping[str, Any], key: str, home: Path) -> Side:
    """A side of MMEB-train: instruction and text are one string, the picture a path."""
    text = given["qry"] if key == "qry" else given["pos_text"]
    side: Side = {"text": _PLACEHOLDER.sub("", text or "").strip()}
    path = given.get(f"{key}_image_path")
    if path:
        side["image"] = Ref(Source(home / path))
    return {name: value for name, value in side.items() if value}


def _embedded(given: Mapping[str, Any]) -> Ref:
    return Ref(Source(given["bytes"]))


def _multiple_choice(given: Mapping[str, Any]) -> tuple[str, str]:
    """Question and answer; of a multiple-choice row with its options, and the option in the place of its letter."""
    asked, answer = given["query"], given["answer"]
    answer = str(answer[0] if isinstance(answer, list) and answer else answer)
    if not given.get("options"):
        return asked, answer
    options = [str(each) for each in ast.literal_eval(given["options"])]
    letter = answer.strip().strip("().:")
    place = ord(letter) - ord("A") if len(letter) == 1 else -1
    if 0 <= place < len(options):
        answer = _LETTER.sub("", options[place])
    return f"{asked} Options: {given['options']}", answer
