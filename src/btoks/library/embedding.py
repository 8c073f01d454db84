"""A library's rows embedded by another model: texts from the table, everything else from the files it came from.

Texts, thumbnails, paths and metadata are taken over; a row whose file is gone is embedded from its thumbnail.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict, deque
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.encode import encode_stream
from btoks.errors import BtoksError
from btoks.library import quantized, reindex, schema, upkeep
from btoks.library import store as stores
from btoks.library.containers import entries
from btoks.library.memories import Memories, to_bytes
from btoks.library.names import from_text, shown
from btoks.library.parts import Cutter, Part, in_context
from btoks.library.records import Record, Records
from btoks.library.store import LanceStore
from btoks.library.tables import connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sentence_transformers import SentenceTransformer

    from btoks.library.reindex import Report
    from btoks.library.schema import Row
    from btoks.library.settings import Settings
    from btoks.library.view import View

_PIECE, _FEWEST, _SHARE = 1_000, 256, 50
_GONE = "its file is gone or has changed"


def embed(
    view: View, begun: Settings, model: SentenceTransformer, report: Report, progress: Callable[[Report], Any]
) -> Settings:
    """Fill the table that was begun; gives the settings to go on with, those of another table if codes were wanted."""
    build = _Build(view, begun)
    build.take_over()
    report.done = len(build.done)
    given = deque[str]()

    def items() -> Iterator[Any]:
        for name, item in _items(view, build.done, report):
            given.append(name)
            yield item

    stream = encode_stream(model, items(), task="document", on_error="skip", memories=begun.keep_memory)
    with closing(stream):  # type: ignore[type-var]
        for out in stream:
            name = given.popleft()
            report.done += 1
            if out.embedding is None or not np.isfinite(out.embedding).all() or not out.embedding.any():
                reason = "its embedding is not finite" if out.error is None else out.error.reason
                report.errors.append(BtoksError(name, reason, "it is left out; index its file again"))
                continue
            build.add(name, out.embedding, None if out.memory is None else to_bytes(out.memory))
            report.embedded += 1
            progress(report)
    return build.finished()


class _Build:
    """The table that is being built."""

    def __init__(self, view: View, begun: Settings) -> None:
        self._view, self._noted = view, begun
        self._store = LanceStore(view.folder, begun)
        self._memories = Memories(connected(view.folder), begun.memories) if begun.keep_memory else None
        self._waiting: dict[str, tuple[Any, bytes | None]] = {}
        self.done: set[str] = set()

    def take_over(self) -> None:
        """Bring what an earlier run has built up to date with the library, which may have changed since."""
        columns = [name for name in schema.COLUMNS if name not in ("text", "thumbnail")]
        mine = {row["id"]: row for row in self._store.get("id IS NOT NULL", columns)}
        theirs = {row["id"]: row for row in self._view.store.get("id IS NOT NULL", columns)} if mine else {}
        self._store.delete([name for name in mine if name not in theirs])
        moved = [name for name, row in mine.items() if name in theirs and row != theirs[name]]
        kept = {row["id"]: row for row in self._store.by("id", moved)}
        self._store.put([{**row, **theirs[name]} for name, row in kept.items()])
        self.done = mine.keys() & theirs.keys()

    def add(self, name: str, vector_D: Any, memory: bytes | None) -> None:
        """Take a row's vector; written is a growing number at once, so that there are few files however many rows."""
        self._waiting[name] = vector_D, memory
        if len(self._waiting) >= max(_FEWEST, len(self.done) // _SHARE):
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if self._memories is not None:
            self._memories.put({name: memory for name, (_, memory) in waiting.items() if memory is not None})
        rows = [
            {key: value for key, value in row.items() if key not in schema.VECTORS} | {"vector": waiting[row["id"]][0]}
            for row in self._view.store.by("id", list(waiting))
        ]
        self._store.put(rows)
        self.done.update(waiting)
        if self._store.codec is None and len(self.done) >= quantized.FIT:
            self._compress()

    def _compress(self) -> None:
        if quantized.scanned(self._noted.quantize) and self._store.table is not None:
            self._noted = reindex.recoded(self._store, self._view.folder, self._noted, spread=True)
            self._store = LanceStore(self._view.folder, self._noted)
            reindex.sweep(self._view.folder, self._view.noted, self._noted)

    def finished(self) -> Settings:
        """Write the rest, compress it if that is wanted, build the index, and forget contents that none is left of."""
        self._write()
        if self._store.codec is None:
            self._compress()
        if self._store.table is not None and self._store.codec is None:
            upkeep.index(self._store.table, stores.EXACT_BELOW, self._noted.quantize)
        records, there = Records(connected(self._view.folder)), self._store.contents()
        lost = [each for each in records.all().values() if not there.issuperset(each.contents)]
        records.put([replace(each, contents=[name for name in each.contents if name in there]) for each in lost])
        return self._noted


def _items(view: View, done: set[str], report: Report) -> Iterator[tuple[str, Any]]:
    """Every row that is not done, and what the model is given of it."""
    rows = view.store.get("id IS NOT NULL", ["id", "content", "kind"])
    left = [row for row in rows if row["id"] not in done]
    texts = [row["id"] for row in left if row["kind"] == "text"]
    for start in range(0, len(texts), _PIECE):
        yield from _passages(view, set(texts[start : start + _PIECE]))
    media: dict[str, set[str]] = defaultdict(set)
    for row in left:
        if row["kind"] != "text":
            media[row["content"]].add(row["id"])
    yield from _originals(view, media)
    names = sorted(name for each in media.values() for name in each)
    for start in range(0, len(names), _PIECE):
        for row in view.store.by("id", names[start : start + _PIECE], ["id", "path", "text", "thumbnail"]):
            yield from _fallback(row, report)


def _passages(view: View, names: set[str]) -> Iterator[tuple[str, Any]]:
    """Texts as they were cut: with the passages around them."""
    held = view.store.by("id", sorted(names), ["id", "content"])
    by_content: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in view.store.by("content", sorted({row["content"] for row in held}), ["id", "content", "kind", "text"]):
        if row["kind"] == "text":
            by_content[row["content"]][int(row["id"][len(row["content"]) + 1 :] or 1)] = row
    for rows in by_content.values():
        cut = [rows[number] for number in sorted(rows)]
        for place, row in enumerate(cut):
            if row["id"] in names:
                yield row["id"], in_context([each["text"] for each in cut], place)


def _originals(view: View, media: Mapping[str, set[str]]) -> Iterator[tuple[str, Any]]:
    """The parts of files that are as they were; what was found is taken out of `media`."""
    cutter = Cutter()
    try:
        for record in Records(connected(view.folder)).all().values():
            if any(media.get(content) for content in record.contents) and _unchanged(record):
                try:
                    yield from _parts(view, cutter, record, media)
                except OSError:
                    continue  # it has gone since: what it held is embedded from its thumbnails
    finally:
        cutter.close()


def _unchanged(record: Record) -> bool:
    try:
        status = os.stat(from_text(record.path))  # noqa: PTH116
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)


def _parts(view: View, cutter: Cutter, record: Record, media: Mapping[str, set[str]]) -> Iterator[tuple[str, Any]]:
    for entry in entries(from_text(record.path), record.digest):
        if isinstance(entry, BtoksError) or entry.source is None or not media.get(entry.content):
            continue
        texts = {row["id"]: row["text"] for row in view.store.by("content", [entry.content], ["id", "text"])}
        for part in cutter.parts(entry.source):
            name = entry.content + part.suffix if isinstance(part, Part) else ""
            if isinstance(part, Part) and name in media[entry.content]:
                media[entry.content].discard(name)
                yield name, part.item if entry.text is None else {**part.item, "text": texts[name]}


def _fallback(row: Row, report: Report) -> Iterator[tuple[str, Any]]:
    from PIL import Image

    where = shown(row["path"]) if row["path"] is not None else row["id"]
    text = {} if row["text"] is None else {"text": row["text"]}
    if row["thumbnail"] is None and not text:
        report.errors.append(BtoksError(where, _GONE, "it is left out; index it again where it is now"))
        return
    report.errors.append(BtoksError(where, _GONE, "it was embedded from its thumbnail; index it where it is now"))
    if row["thumbnail"] is None:
        yield row["id"], text
        return
    with Image.open(io.BytesIO(row["thumbnail"]), formats=("JPEG",)) as small:
        yield row["id"], {**text, "image": small.convert("RGB")}
