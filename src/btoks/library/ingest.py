"""From paths to rows: what is new is cut in parts and embedded, everything else costs a look or a hash.

Files are taken in pieces of a few hundred: hashed, told apart into moved, copied and new, the new ones embedded, and
written in whole batches. A killed run repeats what it had not noted, and finds it done.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.commit import Book, Job
from btoks.library.containers import file_digest
from btoks.library.hub import located
from btoks.library.names import from_text, shown, to_text
from btoks.library.reading import Reader, unread
from btoks.library.records import Record, Records
from btoks.library.rows import exists, types_of
from btoks.library.settings import refuse_other_parts
from btoks.library.tables import connected
from btoks.library.walk import Found, Walk, absolute, inside, unreadable, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btoks.library.disk import Syncer
    from btoks.library.view import View

_PIECE, _BATCH, _EVERY = 512, 256, 5.0
_ELSEWHERE = "its content could not be read where it was found first"


@dataclass
class Report:
    """What became of the files of a run, and what is wrong with the bad ones.

    Of `files`, `unchanged` cost a look; `total` were read and `done` of them are finished, `reused` without embedding
    anything; `embedded` counts parts, `removed` files, `memory_bytes` what the memories of the parts take.
    """

    files: int = 0
    unchanged: int = 0
    total: int = 0
    done: int = 0
    reused: int = 0
    embedded: int = 0
    removed: int = 0
    memory_bytes: int = 0
    errors: list[BtoksError] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """What a run was told to do."""

    paths: list[str]
    prune: bool = False
    force: bool = False
    engine: str = "local"


def update(library: View, syncer: Syncer, run: Run, progress: Callable[[Report], Any] | None = None) -> Report:
    """Bring a library up to date with some paths; its model is loaded if there is something for it."""
    refuse_other_parts(library.folder, library.noted)
    book = Book(library.store, Records(connected(library.folder)), syncer, library.memories)
    types = types_of(library.store.types())
    if run.engine == "ray":
        from btoks.library import distributed

        report = distributed.run(library, book, types, run, progress)
    else:
        with Reader(book, lambda: library.asker().model, types) as reader:
            report = Ingest(book, reader, progress).run(run.paths, prune=run.prune, force=run.force)
    book.tidy()
    return report


@dataclass
class _Copies:
    """Files with known content that are to be written together, with those they took the place of."""

    jobs: list[Job] = field(default_factory=list)
    gone: dict[str, Record] = field(default_factory=dict)
    largest: int = _PIECE

    def take(self, job: Job, gone: Sequence[Record], copies: int) -> None:
        """One more file, of whose content there are so many copies."""
        self.jobs.append(job)
        self.gone.update({each.path: each for each in gone})
        self.largest = max(self.largest, copies)


class Ingest:
    """One run over some paths."""

    def __init__(self, book: Book, reader: Reader, progress: Callable[[Report], Any] | None = None) -> None:
        self._book, self._reader = book, reader
        self._progress = progress or (lambda _: None)
        self.report = Report()
        self._many, self._looked_for = _Copies(), set[str]()

    def run(self, paths: Sequence[str], *, prune: bool, force: bool) -> Report:
        """Bring the library up to date with some paths."""
        roots = sorted({absolute(place) for path in paths for place in located(path)})
        missing = [root for root in roots if prune and not os.path.exists(root)]  # noqa: PTH110
        if missing and not force:
            raise BtoksError(shown(missing[0]), "it is missing", "mount it, or remove what it held with --force")
        before = {root: len(self._under(root)) for root in roots}
        seen = walk([root for root in roots if root not in missing])
        changed = self._changed(seen)
        self.report.total = len(changed)
        try:
            step = self._step()
            for start in range(0, len(changed), step):
                self._piece(changed[start : start + step])
        finally:
            self._place_many()
        if prune:
            self._prune(before, seen, force=force)
        return self.report

    def _step(self) -> int:
        return _PIECE

    def _changed(self, seen: Walk) -> list[Found]:
        report, changed = self.report, []
        report.files = len(seen.found)
        report.errors += seen.unread.values()
        for found in seen.found:
            record = self._book.known.get(to_text(found.path))
            if record is not None and (record.size, record.mtime_ns) == (found.size, found.mtime_ns):
                report.unchanged += 1
                report.errors += record.errors()
            else:
                changed.append(found)
        return changed

    def _piece(self, changed: list[Found]) -> None:
        """Hash some files; write the known contents at their new places, then embed the new contents."""
        known, fresh, copies = _Copies(), dict[str, Job](), list[Job]()
        for job in self._hashed(changed):
            twin = next(self._book.twins(job.record), None)
            if twin is not None:
                self._follow(job, twin)
                many = self._book.copies(job.record)
                (self._many if many > _PIECE else known).take(job, self._moved(job), many)
            elif job.record.digest in fresh:
                copies.append(job)
            else:
                fresh[job.record.digest] = job
        self._placed(known)
        if len(self._many.jobs) >= self._many.largest:
            self._place_many()
        self._embed(list(fresh.values()))
        for job in copies:
            first = fresh[job.record.digest].record
            if self._book.known.get(first.path) is first:
                self._follow(job, first)
            else:
                self._unfinished(unread(job, _ELSEWHERE))
        followers = [job for job in copies if job.twin is not None]
        self._book.commit(followers)
        self._finished(followers, reused=True)

    def _moved(self, job: Job) -> list[Record]:
        """The copies of a file's content that are gone; looked for once in a run."""
        if job.record.digest in self._looked_for:
            return []
        self._looked_for.add(job.record.digest)
        return [each for each in self._book.twins(job.record) if not exists(each.path)]

    def _placed(self, known: _Copies) -> None:
        self._book.commit(known.jobs, list(known.gone.values()))
        self._finished(known.jobs, reused=True)

    def _place_many(self) -> None:
        """Write the copies of contents that have many: each time as many again, since all places are one row."""
        waiting, self._many = self._many, _Copies()
        kept = []
        for job in waiting.jobs:
            if job.twin is None or self._book.known.get(job.twin.path) is not job.twin:  # it has changed since
                twin = next(self._book.twins(job.record), None)
                if twin is None:
                    self._unfinished(unread(job, _ELSEWHERE))
                    continue
                self._follow(job, twin)
            kept.append(job)
        if kept:
            self._placed(_Copies(kept, waiting.gone))

    def _hashed(self, changed: list[Found]) -> Iterator[Job]:
        for found in changed:
            path = to_text(found.path)
            known = self._book.known.get(path)
            root = to_text(found.root) if known is None else known.root
            try:
                content = file_digest(found.path)
            except OSError as error:
                self._unfinished(unreadable(found.path, error))
                continue
            yield Job(Record(path, root, found.size, found.mtime_ns, content))

    def _follow(self, job: Job, twin: Record) -> None:
        """Take what is known of a file for a copy of it, also what is wrong with it."""
        job.twin = twin
        job.record.contents = list(twin.contents)
        here, there = shown(job.record.path), shown(twin.path)
        job.errors = [BtoksError(each.item.replace(there, here), each.reason, each.way_out) for each in twin.errors()]
        job.record.note(job.errors)

    def _embed(self, jobs: list[Job]) -> None:
        self._written(self._reader.embedded(jobs))

    def _written(self, jobs: Iterator[Job]) -> None:
        """Write finished files in batches; an interruption loses none that is finished."""
        batch: list[Job] = []
        last = time.monotonic()
        try:
            for job in jobs:
                if self._settled(job, {row["content"] for each in batch for row in each.rows}):
                    batch.append(job)
                if sum(len(each.rows) for each in batch) >= _BATCH or time.monotonic() - last >= _EVERY:
                    done, batch, last = batch, [], time.monotonic()
                    self._commit(done)
        finally:
            self._commit(batch)

    def _commit(self, jobs: list[Job]) -> None:
        self._book.commit(jobs)
        self.report.embedded += sum(len(job.rows) for job in jobs)
        self.report.memory_bytes += sum(len(data) for job in jobs for data in job.memories.values())
        self._finished(jobs, reused=False)

    def _settled(self, job: Job, waiting: set[str]) -> bool:
        """Whether a file may be noted: one that could not be read to its end is left for the next run.

        `waiting` are contents whose rows are written with it.
        """
        contents = list(dict.fromkeys(content for content, _ in job.entries))
        fresh = waiting.union(row["content"] for row in job.rows)
        there = [content for content in contents if content in fresh or content in self._book.present]
        # A content claimed by another file that failed is nowhere, unless this file says itself what is wrong with it.
        if job.trouble is None and not job.errors and len(there) < len(contents):
            job.trouble = unread(job, _ELSEWHERE)
        if job.trouble is not None:
            self._unfinished(job.trouble)
            return False
        job.record.contents = there
        job.record.note(job.errors)
        return True

    def _unfinished(self, error: BtoksError) -> None:
        self.report.errors.append(error)
        self.report.done += 1
        self._progress(self.report)

    def _finished(self, jobs: Sequence[Job], *, reused: bool) -> None:
        for job in jobs:
            self.report.done += 1
            self.report.reused += (reused or not (job.rows or job.written)) and not job.errors
            self.report.errors += job.errors
            self._progress(self.report)

    def _under(self, root: str) -> list[Record]:
        return [each for each in self._book.known.values() if inside(from_text(each.path), root)]

    def _prune(self, before: dict[str, int], seen: Walk, *, force: bool) -> None:
        """Forget files that are gone; a root that lost most of its files is taken for a disk that is not there."""
        there = {to_text(found.path) for found in seen.found}
        for root, count in before.items():
            lost = [each for each in self._under(root) if each.path not in there and not self._hidden(each, seen)]
            if 2 * len(lost) > count and not force:
                reason = f"{len(lost)} of its {count} files are gone"
                raise BtoksError(shown(root), reason, "mount what is missing, or remove them with --force")
            for piece in _pieces(lost):
                self._book.commit([], piece)
                self.report.removed += len(piece)

    def _hidden(self, record: Record, seen: Walk) -> bool:
        """Whether a file that was not found may still be there."""
        path = from_text(record.path)
        return exists(record.path) or any(inside(path, folder) for folder in seen.unread)


def _pieces(records: list[Record]) -> Iterator[list[Record]]:
    """Files in pieces that part no copies, since all places of a content are one row."""
    piece: list[Record] = []
    for record in sorted(records, key=lambda each: (each.digest, each.path)):
        if len(piece) >= _PIECE and record.digest != piece[-1].digest:
            yield piece
            piece = []
        piece.append(record)
    if piece:
        yield piece
