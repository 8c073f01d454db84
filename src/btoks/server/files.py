"""Originals, opened so that nothing else can be: only what a row names, under its root, with no link on the way."""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import anyio
from fastapi.responses import Response, StreamingResponse

from btoks.errors import BtoksError
from btoks.library.containers import entries
from btoks.library.names import from_text, shown, to_text
from btoks.library.walk import inside
from btoks.media import MediaError
from btoks.media.sniff import HEAD, sniff
from btoks.server.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from btoks.library.records import Record
    from btoks.library.schema import Row
    from btoks.server.shelf import Shelf

_PIECE, _MEMBER = 1 << 18, 64 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES = {
    "mov": "video/mp4",
    "matroska": "video/webm",
    "ogg": "video/ogg",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
    "mpeg": "video/mpeg",
    "JPEG2000": "image/jp2",
    "PPM": "image/x-portable-anymap",
    "pdfium": "application/pdf",
}
"""Media types by decoder, where they are not `image/` and its name."""


@dataclass(frozen=True)
class Original:
    """An open original: its bytes, what names its state, its type and its name."""

    file: IO[bytes]
    size: int
    tag: str
    media_type: str
    name: str


def original(shelf: Shelf, row: Row) -> Original:
    """The file of an item, or what an archive or table holds of it; ProblemError where it cannot be had."""
    refused = ProblemError(404, "the item has no file")
    for path, origin in zip(row["paths"] or [], row["origins"] or [], strict=True):
        record = shelf.record(origin)
        if record is None:
            continue
        try:
            if path == origin:
                return _described(_opened(origin, record.root), path)
            return _described(_member(row, path, origin, record), path)
        except ProblemError as error:
            refused = error
        except OSError:
            refused = ProblemError(404, "the file is not there any more")
    raise refused


def _opened(origin: str, root: str) -> IO[bytes]:
    """A file under its root. Links are resolved first and none is followed then, so that no swap in between helps."""
    real_root = os.path.realpath(from_text(root))
    real = os.path.realpath(from_text(origin))
    if real == real_root or not inside(real, real_root):
        raise ProblemError(403, "the file leads outside its folder")
    *folders, name = Path(real).relative_to(real_root).parts
    at = os.open(real_root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise ProblemError(404, "it is no regular file")
    return os.fdopen(found, "rb")


def _member(row: Row, path: str, origin: str, record: Record) -> IO[bytes]:
    """A member of an archive, or what a table names. Its content is what was indexed, as their digests agree."""
    _opened(origin, record.root).close()
    try:
        for entry in entries(from_text(origin), record.digest):
            if isinstance(entry, BtoksError) or to_text(entry.path) != path or entry.content != row["content"]:
                continue
            uri = entry.source.uri if entry.source is not None else None
            if isinstance(uri, bytes) and len(uri) <= _MEMBER:
                return io.BytesIO(uri)
            if isinstance(uri, Path):
                return _opened(str(uri), record.root)
    except BtoksError:
        pass
    raise ProblemError(404, "the item has no file of its own that could be sent")


def _described(file: IO[bytes], path: str) -> Original:
    status = os.fstat(file.fileno()) if not isinstance(file, io.BytesIO) else None
    size = status.st_size if status else file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    tag = f'"{status.st_mtime_ns:x}-{size:x}"' if status else f'"{size:x}"'
    try:
        family, decoder = sniff(head, "file")
    except MediaError:
        family, decoder = "text", ""
    if family == "text":
        # A page of the library's own origin could ask for everything: no HTML, no SVG is ever served as such.
        media_type = "text/plain; charset=utf-8" if decoder else "application/octet-stream"
    else:
        media_type = _TYPES.get(decoder) or (f"image/{decoder.lower()}" if family == "image" else "video/mp4")
    return Original(file, size, tag, media_type, shown(path).rpartition("/")[2])


def answer(found: Original, headers: Mapping[str, str]) -> Response:
    """The file, or the range of it that was asked for."""
    sandbox = "" if found.media_type == "application/pdf" else "; sandbox"
    shared = {
        "Accept-Ranges": "bytes",
        "ETag": found.tag,
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'{sandbox}",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(found.name, safe='')}",
    }
    if found.tag in headers.get("if-none-match", ""):
        found.file.close()
        return Response(status_code=304, headers=shared)
    asked = headers.get("range") if headers.get("if-range", found.tag) == found.tag else None
    start, end = _range(asked, found)
    partial = (start, end) != (0, found.size) or (asked is not None and _RANGE.fullmatch(asked) is not None)
    if partial:
        shared["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    shared["Content-Length"] = str(end - start)
    return _Answer(found, start, end, 206 if partial else 200, shared)


def _range(asked: str | None, found: Original) -> tuple[int, int]:
    """First byte and the one behind the last; what is no single range means all of it."""
    match = _RANGE.fullmatch(asked or "")
    if match is None or match.groups() == ("", ""):
        return 0, found.size
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else found.size, found.size)
    else:
        start, end = max(found.size - int(last), 0), found.size
    if start >= end:
        found.file.close()
        raise ProblemError(416, "the file has no such range", {"Content-Range": f"bytes */{found.size}"})
    return start, end


class _Answer(StreamingResponse):
    """Sends a stretch of a file, and closes it however that ends."""

    def __init__(self, found: Original, start: int, end: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(_pieces(found.file, start, end), status, headers, found.media_type)
        self._file = found.file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _pieces(file: IO[bytes], start: int, end: int) -> AsyncIterator[bytes]:
    await anyio.to_thread.run_sync(file.seek, start)
    while start < end:
        piece = await anyio.to_thread.run_sync(file.read, min(_PIECE, end - start))
        if not piece:
            return
        start += len(piece)
        yield piece
