"""Reading files that are new: what each holds is cut in parts, and the parts are embedded as one stream."""

from __future__ import annotations

import os
from collections import deque
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from btoks.errors import BtoksError
from btoks.library.containers import Entry, entries
from btoks.library.memories import to_bytes
from btoks.library.names import from_text, shown, to_text
from btoks.library.parts import Cutter, Part, of_text
from btoks.library.rows import conform, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set
    from types import TracebackType

    from sentence_transformers import SentenceTransformer

    from btoks.encode import Encoded
    from btoks.library.commit import Job
    from btoks.library.schema import Row


def unread(job: Job, reason: str) -> BtoksError:
    """Why a file is left for the next run."""
    return BtoksError(shown(job.record.path), reason, "it is tried again by the next run")


class Known(Protocol):
    """What a reader asks of the library: the contents that are there, and whether memories are kept."""

    @property
    def present(self) -> Set[str]:
        """The contents that are there."""

    @property
    def remembers(self) -> bool:
        """Whether memories are kept."""


class Reader:
    """Opens files, and the model when the first part asks for it; `types` are those of the columns of metadata.

    A content is embedded for the file to which `claim` gives it: the first one, unless others read beside.
    """

    def __init__(
        self,
        book: Known,
        model: Callable[[], SentenceTransformer],
        types: dict[str, type],
        claim: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._book, self._model, self._types = book, model, types
        self._claimed: set[str] = set()
        self._claim = claim
        self._cutter = Cutter()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, sort: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cutter.close()

    def embedded(self, jobs: list[Job]) -> Iterator[Job]:
        """The files, as soon as all their parts are embedded; the model is only opened if there is something for it."""
        waiting: deque[tuple[Job, Row | None]] = deque()

        def items() -> Iterator[Any]:
            for job in jobs:
                for row, item in self._rows(job):
                    waiting.append((job, row))
                    yield item
                waiting.append((job, None))

        given = items()
        first = next(given, None)
        if first is not None:
            from btoks.encode import encode_stream

            options: dict[str, Any] = {"task": "document", "on_error": "skip", "memories": self._book.remembers}
            stream = encode_stream(self._model(), chain([first], given), **options)
            with closing(stream):  # type: ignore[type-var]
                for out in stream:
                    while waiting[0][1] is None:
                        yield waiting.popleft()[0]
                    job, row = waiting.popleft()
                    self._take(job, row or {}, out)
        yield from (job for job, _ in waiting)

    def _take(self, job: Job, row: Row, out: Encoded) -> None:
        if out.embedding is not None and np.isfinite(out.embedding).all() and out.embedding.any():
            job.rows.append({**row, "vector": out.embedding})
            if out.memory is not None:
                job.memories[row["id"]] = to_bytes(out.memory)
            return
        where = shown(job.record.path) + row["id"][len(row["content"]) :]
        reason, way_out = (
            (out.error.reason, out.error.way_out) if out.error else ("its embedding is not finite", "skip it")
        )
        job.errors.append(BtoksError(where, reason, way_out))

    def _rows(self, job: Job) -> Iterator[tuple[Row, Any]]:
        """The parts of a file that are not there yet, and what the model is given of each."""
        record = job.record
        path = from_text(record.path)
        try:
            for entry in entries(path, record.digest):
                if isinstance(entry, BtoksError):
                    job.errors.append(entry)
                    continue
                job.entries.append((entry.content, to_text(entry.path)))
                if self._wanted(entry.content, record.path):
                    yield from self._parts(job, entry)
            status = os.stat(path)  # noqa: PTH116
            if (status.st_size, status.st_mtime_ns) != (record.size, record.mtime_ns):
                job.trouble = unread(job, "it changed while it was read")
        except OSError as error:
            job.trouble = unread(job, f"it cannot be read ({error.strerror})")

    def _wanted(self, content: str, path: str) -> bool:
        if content in self._book.present or content in self._claimed:
            return False
        self._claimed.add(content)
        return self._claim is None or self._claim(content, path)

    def _parts(self, job: Job, entry: Entry) -> Iterator[tuple[Row, Any]]:
        where, count = shown(to_text(entry.path)), len(job.errors)
        try:
            metadata = conform(entry.metadata, self._types, where)
        except BtoksError as error:
            job.errors.append(error)
            return
        empty = True
        for part in self._cut(entry):
            if isinstance(part, BtoksError):
                item = part.item if isinstance(entry.source and entry.source.uri, str) else where
                job.errors.append(BtoksError(item, part.reason, part.way_out))
            else:
                empty = False
                yield row_of(entry.content, part, metadata), part.item
        if empty and len(job.errors) == count:
            job.errors.append(BtoksError(where, "it holds nothing to find", "skip it"))

    def _cut(self, entry: Entry) -> Iterator[Part | BtoksError]:
        """The parts of a member, a row or a file; a row's text belongs to its picture or clip."""
        if entry.source is None:
            yield from of_text(entry.text or "")
            return
        for part in self._cutter.parts(entry.source):
            if isinstance(part, Part) and entry.text is not None:
                text = "\n".join(filter(None, (entry.text, part.text)))
                yield replace(part, item={**part.item, "text": text}, text=text)
            else:
                yield part
