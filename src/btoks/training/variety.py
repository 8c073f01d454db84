"""Rows without end from few records: pictures cropped and tinted anew on each pass, other frames of a clip, texts with
words left out, sentences of a page to find the page by.

What changes depends on the seed, the row and the pass alone, so that a resumed run sees the same.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.media import Source
from btoks.training.layers import layers
from btoks.training.readers import Records, found
from btoks.training.rows import Change, Ref, Row, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btoks.training.rows import Reader, Side

_SENTENCE = re.compile(r"[^.!?;·\n]{20,}[.!?;·]?")
_LEAST_FRAMES = 4


@dataclass(frozen=True)
class Varied:
    """Another reader's rows with their media changed a little, in another way on each pass.

    Pictures keep at least `crop` of their width and height, and their light, contrast and colour change by up to
    `tint`. Of a clip that is a list of frames some are left out. A picture that is the same on both sides, like one
    whose part is sought, is only tinted.

    >>> Varied(Records("grocery"), crop=0.7, tint=0.2)  # doctest: +SKIP
    """

    read: Reader
    crop: float = 0.7
    tint: float = 0.2
    seed: int = 0

    def open(self, data: Path | None) -> Rows:
        """Open the rows to be changed."""
        if not 0 < self.crop <= 1 or not 0 <= self.tint < 1:
            raise BtoksError(f"crop={self.crop}, tint={self.tint}", "no shares", "pass shares of one")
        return _Varied(self.read.open(data), self)


@dataclass(frozen=True)
class Sentences:
    """A page for each page record of a folder, to be found by one of its sentences, another on each pass.

    The page has its picture and its text; in every second pass the sentence is taken out of the text.

    >>> Sentences("xquad").open(Path("data"))  # doctest: +SKIP
    """

    folder: str
    split: str = "train"
    seed: int = 0

    def open(self, data: Path | None) -> Rows:
        """The pages that the split's records name; nothing else of the folder is read."""
        records = Records(self.folder, split=self.split, meta_task="visdoc").open(data)
        pages: dict[str, Ref] = {}
        for number in range(len(records)):
            picture = records.row(number, 0).positive["image"]
            pages[Path(picture.source.uri).stem] = picture
        texts = layers(found(data, self.folder))
        return _Sentences([(name, pages[name], texts[name]) for name in sorted(pages)], self.seed)


@dataclass(frozen=True)
class Halves:
    """Texts of other readers' rows, to be found by what is left of them without some words.

    Texts with fewer or more words than is said are left out.

    >>> Halves((Records("recipes"),)).open(Path("data"))  # doctest: +SKIP
    """

    reads: tuple[Reader, ...]
    least_words: int = 4
    most_words: int = 40
    seed: int = 0

    def open(self, data: Path | None) -> Rows:
        """Each different text once."""
        texts = {text: None for read in self.reads for text in _texts(read.open(data))}
        fit = [text for text in texts if self.least_words <= len(text.split()) <= self.most_words]
        if not fit:
            words = f"{self.least_words} to {self.most_words} words"
            raise BtoksError("halves", f"no text has {words}", "name readers with other texts")
        return _Halves(fit, self.seed)


def _texts(rows: Rows) -> Iterator[str]:
    for number in range(len(rows)):
        row = rows.row(number, 0)
        yield from (side["text"] for side in (row.query, row.positive) if side.get("text"))


class _Varied:
    def __init__(self, rows: Rows, how: Varied) -> None:
        self.rows, self.how = rows, how

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int, passed: int) -> Row:
        row = self.rows.row(number, passed)
        luck = np.random.default_rng([self.how.seed, number, passed])
        crop = 1.0 if "image" in row.query and "image" in row.positive else self.how.crop
        sides = [self._changed(side, crop, luck) for side in (row.query, row.positive, *row.negatives)]
        return dataclasses.replace(row, query=sides[0], positive=sides[1], negatives=tuple(sides[2:]))

    def _changed(self, side: Side, crop: float, luck: np.random.Generator) -> Side:
        changed = dict(side)
        if "image" in side:
            size = luck.uniform(crop, 1.0)
            left, top = luck.uniform(0, 1 - size, 2)
            light = luck.uniform(1 - self.how.tint, 1 + self.how.tint, 3)
            changed["image"] = dataclasses.replace(side["image"], change=Change((left, top, size), tuple(light)))
        if "video" in side and isinstance(side["video"].source.uri, list):
            changed["video"] = Ref(Source(_some(side["video"].source.uri, luck)))
        return changed


def _some(frames: list[Any], luck: np.random.Generator) -> list[Any]:
    """At least half of the frames, in their order."""
    least = min(len(frames), max(_LEAST_FRAMES, len(frames) // 2))
    kept = luck.choice(len(frames), size=luck.integers(least, len(frames) + 1), replace=False)
    return [frames[place] for place in sorted(kept)]


class _Sentences:
    def __init__(self, pages: list[tuple[str, Ref, str]], seed: int) -> None:
        self.pages, self.seed = pages, seed

    def __len__(self) -> int:
        return len(self.pages)

    def row(self, number: int, passed: int) -> Row:
        name, picture, text = self.pages[number]
        luck = np.random.default_rng([self.seed, number, passed])
        sentences = _SENTENCE.findall(text) or [text]
        sentence = sentences[luck.integers(len(sentences))]
        rest = text.replace(sentence, " ") if passed % 2 and len(sentences) > 1 else text
        return Row(name, {"text": _left(sentence, luck, 0.8)}, {"image": picture, "text": rest})


class _Halves:
    def __init__(self, texts: list[str], seed: int) -> None:
        self.texts, self.seed = texts, seed

    def __len__(self) -> int:
        return len(self.texts)

    def row(self, number: int, passed: int) -> Row:
        text, luck = self.texts[number], np.random.default_rng([self.seed, number, passed])
        return Row(str(number), {"text": _left(text, luck, 0.4)}, {"text": text})


def _left(text: str, luck: np.random.Generator, least: float) -> str:
    """The text without some of its words: at least the share `least` of them stays."""
    words = text.split()
    kept = max(1, round(len(words) * luck.uniform(least, 1.0)))
    return " ".join(words[place] for place in sorted(luck.choice(len(words), size=kept, replace=False)))
