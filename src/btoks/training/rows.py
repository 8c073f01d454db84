"""What a training row is before and after its media are opened.

Row(id, query, positive, negatives)     sides hold texts and `Ref`s: nothing is opened
  └─ decoded(side) ──▶ Item             what sentence-transformers takes
  └─ fingerprint(side) ──▶ int          the same for the same content, wherever it lies
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image, ImageEnhance

from btoks.errors import BtoksError
from btoks.media import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LIGHT = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

Side = dict[str, Any]
"""Any of `text` (str), `image` (a `Ref`) and `video` (a `Ref`)."""


@dataclass(frozen=True)
class Change:
    """How a picture is varied: the square part (left, top, size) of it in shares, its light, contrast and colour."""

    part: tuple[float, float, float] = (0.0, 0.0, 1.0)
    light: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Ref:
    """A picture or clip to open later; with a box (x0, y0, x1, y1) that part of the picture, changed if so wished."""

    source: Source
    box: tuple[float, float, float, float] | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Row:
    """A query, its positive and its hard negatives."""

    id: str
    query: Side
    positive: Side
    negatives: tuple[Side, ...] = ()


class Rows(Protocol):
    """A data set's rows by number; `passed` counts how often all of them have been seen."""

    def __len__(self) -> int: ...

    def row(self, number: int, passed: int) -> Row:
        """One row; an error means that it is broken."""
        ...


class Reader(Protocol):
    """Where rows come from: opened once the recipe's data folder is known."""

    def open(self, data: Path | None) -> Rows:
        """The rows; an error if they are not there."""
        ...


def decoded(side: Side, load: Callable[[Source], Mapping[str, Any]], pixels: int | None = None) -> dict[str, Any]:
    """The side as an item, pictures and frames scaled down to `pixels` where they have more.

    >>> decoded({"text": "a fox"}, load=dict)
    {'text': 'a fox'}
    """
    out: dict[str, Any] = {}
    for key, value in side.items():
        if isinstance(value, Ref):
            item = load(value.source)
            if key not in item:
                raise BtoksError(value.source.name, f"it holds no {key}", "mend or remove the row")
            out[key] = _picture(item[key], value, pixels) if key == "image" else _clip(item[key], pixels)
        elif value:
            out[key] = value
    if not out:
        raise BtoksError("row", "one of its sides is empty", "mend or remove it")
    return out


def fingerprint(side: Side) -> int:
    """A number for a side's content, below 2⁶³: equal texts and equal files give equal numbers.

    >>> fingerprint({"text": "a  fox"}) == fingerprint({"text": "A fox "})
    True
    """
    digest = hashlib.blake2b(digest_size=8)
    for key in sorted(side):
        digest.update(key.encode())
        value = side[key]
        if isinstance(value, Ref):
            for part in _parts(value.source):
                digest.update(part)
            digest.update(repr((value.source.page, value.source.start, value.source.end, value.box)).encode())
        else:
            digest.update(" ".join(str(value).lower().split()).encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def _parts(source: Source) -> list[bytes]:
    """A file's bytes; of a list of frames the first, the middle and the last, and how many there are."""
    uri = source.uri
    if isinstance(uri, list):
        chosen = [uri[0], uri[len(uri) // 2], uri[-1]] if uri else []
        return [str(len(uri)).encode(), *(part for each in chosen for part in _parts(Source(each)))]
    if isinstance(uri, str | Path):
        return [Path(uri).read_bytes()]
    return [uri if isinstance(uri, bytes) else np.asarray(uri).tobytes()]


def _picture(image: Image.Image, ref: Ref, pixels: int | None) -> Image.Image:
    if ref.box is not None:
        x0, y0, x1, y1 = ref.box
        if not (x0 < x1 and y0 < y1):
            raise BtoksError(f"box {list(ref.box)}", "it is empty", "mend or remove the row")
        image = image.crop((round(x0), round(y0), max(round(x1), round(x0) + 1), max(round(y1), round(y0) + 1)))
    if ref.change is None:
        return _shrunk(image, pixels)
    left, top, size = ref.change.part
    wide, high = image.size
    shares = zip((left, top, left + size, top + size), (wide, high, wide, high), strict=True)
    x0, y0, x1, y1 = (round(share * full) for share, full in shares)
    image = _shrunk(image.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))), pixels)
    for enhance, strength in zip(_LIGHT, ref.change.light, strict=True):
        image = enhance(image).enhance(strength) if strength != 1 else image
    return image


def _clip(video: Mapping[str, Any], pixels: int | None) -> dict[str, Any]:
    array = video["array"]
    if pixels is None or array.shape[1] * array.shape[2] <= pixels:
        return dict(video)
    frames = [np.asarray(_shrunk(Image.fromarray(frame), pixels)) for frame in array]
    return {**video, "array": np.stack(frames)}


def _shrunk(image: Image.Image, pixels: int | None) -> Image.Image:
    area = image.width * image.height
    if pixels is None or area <= pixels:
        return image
    share = (pixels / area) ** 0.5
    return image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))))
