"""What `btoks embed` reads: files (a PDF is a row a page), folders, or JSON lines; nothing is decoded here."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError, did_you_mean
from btoks.media import Decoder, MediaError, Source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_SUCH_AS = 'write objects such as {"id": "a", "text": "a red fox"}'
_NUMBER = (int, float)
_FIELDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "id": ((str, int), "a text or a whole number"),
    "text": (str, "a text"),
    "image": ((str, list), "a path, a URL or a list of them"),
    "video": ((str, list), "a path, a URL or a list of frames"),
    "page": (int, "a whole number, from 1"),
    "start": (_NUMBER, "seconds"),
    "end": (_NUMBER, "seconds"),
}


@dataclass(frozen=True)
class Row:
    """One item to embed, under the names it has in the output; or the error that took its place."""

    id: str
    path: str | None = None
    item: Source | Mapping[str, Any] | None = None
    error: BtoksError | None = None


def from_files(names: Iterable[str]) -> Iterator[Row]:
    """A row a file, and a row a page of a PDF; a folder stands for the files in it, hidden ones left out.

    Pages are counted in a worker process: a file that crashes PDFium is a bad file, not the end of the run.
    """
    with Decoder() as decoder:
        for name in names:
            for file in _inside(Path(name)) if Path(name).is_dir() else [name]:
                yield from _of_file(file, decoder)


def from_lines(lines: Iterable[bytes]) -> Iterator[Row]:
    """A row a JSON line; a line that is wrong becomes a row with its error."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _of_line(number, line)
            except BtoksError as error:
                yield Row(f"line {number}", error=error)


def embedded(
    model: SentenceTransformer, rows: Iterable[Row], **options: Any
) -> Generator[tuple[Row, NDArray[np.float32] | None], None, None]:
    """Every row in its order with its embedding, or with its error; `options` go to `encode_stream`."""
    from btoks.encode import encode_stream

    waiting: deque[Row] = deque()

    def items() -> Iterator[Any]:
        for row in rows:
            waiting.append(row)
            if row.error is None:
                yield row.item

    for out in encode_stream(model, items(), **options):
        while waiting[0].error is not None:
            yield waiting.popleft(), None
        yield replace(waiting.popleft(), error=out.error), out.embedding
    while waiting:
        yield waiting.popleft(), None


def _inside(folder: Path) -> list[str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    hidden = (any(part.startswith(".") for part in path.relative_to(folder).parts) for path in found)
    return [str(path) for path, skip in zip(found, hidden, strict=True) if not skip]


def _of_file(file: str, decoder: Decoder) -> Iterator[Row]:
    source = Source(file)
    name = os.fsencode(file).decode(errors="replace")
    try:
        pages = decoder.page_count(source) if decoder.kind(source) == "pdf" else None
    except MediaError as error:
        yield Row(name, name, error=error)
        return
    if pages is None:
        yield Row(name, name, source)
        return
    for page in range(1, pages + 1):
        yield Row(f"{name}#page={page}", name, Source(file, page=page))


def _of_line(number: int, line: bytes) -> Row:
    given = _checked(f"line {number}", line)
    image, video = given.get("image"), given.get("video")
    item: dict[str, Any] = {"text": given["text"]} if "text" in given else {}
    if image is not None:
        item["image"] = Source(image, page=given["page"]) if "page" in given else image
    if video is not None:
        item["video"] = Source(video, start=given.get("start"), end=given.get("end"))
    path = next((each for each in (image, video) if isinstance(each, str) and not each.startswith("data:")), None)
    # A page alone is its picture and its text layer, as it is when the file itself is given.
    whole = item["image"] if "page" in given and set(item) == {"image"} else item
    return Row(str(given.get("id", number)), path, whole)


def _checked(where: str, line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise BtoksError(where, f"not JSON ({error})", _SUCH_AS) from error
    if not isinstance(given, dict):
        raise BtoksError(where, "not an object", _SUCH_AS)
    given = {key: value for key, value in given.items() if value is not None}
    for key, value in given.items():
        if key not in _FIELDS:
            raise BtoksError(where, f"unknown key {key!r}", did_you_mean(key, _FIELDS))
        kinds, expected = _FIELDS[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise BtoksError(where, f"{key} is {json.dumps(value)[:40]}", f"give {expected}")
    if not {"text", "image", "video"} & set(given):
        raise BtoksError(where, "nothing to embed", "give text, image or video")
    for key, of in (("page", "image"), ("start", "video"), ("end", "video")):
        if key in given and of not in given:
            raise BtoksError(where, f"{key} without {of}", f"name the file in {of}")
    return given
