"""What a library knows of its files, and how a batch of them is written: rows first, records last.

    file on disk ── record: size, time, contents ──▶ content ──▶ rows (one a part), each with all its places
A content is embedded once, wherever and however often it lies; a row goes when its last place does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from btoks.library import upkeep
from btoks.library.names import from_text
from btoks.library.rows import Place, folder_of, placed, places_of
from btoks.library.walk import year_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btoks.errors import BtoksError
    from btoks.library.disk import Syncer
    from btoks.library.interface import Store
    from btoks.library.memories import Memories
    from btoks.library.records import Record, Records
    from btoks.library.schema import Row

_TIDY_EVERY = 50


@dataclass
class Job:
    """A file under way: what it holds, its new rows, what is wrong with it; `twin` is a known file with its content."""

    record: Record
    twin: Record | None = None
    entries: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    errors: list[BtoksError] = field(default_factory=list)
    memories: dict[str, bytes] = field(default_factory=dict)
    written: int = 0
    """How many of its rows are in the table already."""
    trouble: BtoksError | None = None
    """Why the file has to be read again by the next run."""

    def place(self, path: str) -> Place:
        """Something in the file, under its name."""
        record = self.record
        year = year_of(from_text(record.path), record.mtime_ns)
        return Place(path, record.path, folder_of(record.path, record.root), year)


class Book:
    """All records, and the contents that have rows, as they were at the last commit."""

    def __init__(self, store: Store, records: Records, syncer: Syncer, memories: Memories | None = None) -> None:
        self._store, self._records, self._syncer, self._memories = store, records, syncer, memories
        self._commits = 0
        self.known: dict[str, Record] = records.all()
        self.present = store.contents()
        self._by_digest: dict[str, dict[str, None]] = defaultdict(dict)  # the good ones, in order
        for path in sorted(self.known):
            self._place(self.known[path])

    @property
    def remembers(self) -> bool:
        """Whether the memories of new rows are kept."""
        return self._memories is not None

    def twins(self, record: Record) -> Iterator[Record]:
        """The known files with a file's content, all of it embedded, other than itself."""
        same = (self.known[path] for path in self._by_digest[record.digest] if path != record.path)
        return (each for each in same if self.present.issuperset(each.contents))

    def copies(self, record: Record) -> int:
        """How many known files have a file's content, about."""
        return len(self._by_digest[record.digest])

    def commit(self, jobs: Sequence[Job], gone: Sequence[Record] = ()) -> None:
        """Write files whole, and forget others."""
        if not jobs and not gone:
            return
        leaving = {each.path for each in (*(job.record for job in jobs), *gone)}
        groups = self._touched(jobs, leaving)
        places = {content: places_of(rows[0]) for content, rows in groups.items()}
        lying = {content: _by_origin(old) for content, old in places.items()}
        kept = {content: {each for each in old if each.origin not in leaving} for content, old in places.items()}
        for job in jobs:
            for content, place in self._places(job, lying):
                kept[content].add(place)
        changed = [content for content in groups if kept[content] and kept[content] != places[content]]
        dead = [content for content in groups if not kept[content]]
        self._remember(jobs)
        self._store.put([placed(row, kept[content]) for content in changed for row in groups[content]])
        self._forget([row["id"] for content in dead for row in groups[content]])
        self._records.put([job.record for job in jobs])
        self._records.delete([each.path for each in gone])
        self.present.update(changed)
        self.present.difference_update(dead)
        self._note(jobs, gone)
        self._commits += 1
        if self._commits % _TIDY_EVERY == 0:
            self.tidy()
        self._syncer.now_and_then()

    def _remember(self, jobs: Sequence[Job]) -> None:
        if self._memories is not None:
            self._memories.put({name: data for job in jobs for name, data in job.memories.items()})

    def _forget(self, ids: list[str]) -> None:
        self._store.delete(ids)
        if self._memories is not None:
            self._memories.delete(ids)

    def tidy(self) -> None:
        """Merge the small files that many commits leave; not those of memories, which are large and read one by one."""
        self._store.tidy()
        if self._records.table is not None:
            upkeep.merge_small(self._records.table)

    def _touched(self, jobs: Sequence[Job], leaving: set[str]) -> dict[str, list[Row]]:
        """The rows, stored or new, of every content that the batch may change."""
        contents = {content for path in leaving if path in self.known for content in self.known[path].contents}
        contents.update(content for job in jobs for content in job.record.contents)
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self._store.by("content", sorted(contents & self.present)):
            groups[row["content"]].append(row)
        for row in (row for job in jobs for row in job.rows):
            groups[row["content"]].append(row)
        return groups

    def _places(self, job: Job, lying: dict[str, dict[str, list[Place]]]) -> list[tuple[str, Place]]:
        """Where the batch puts a file's contents: a moved file's members keep their names in it."""
        path, twin = job.record.path, job.twin
        if twin is None:
            here = job.place(path)
            named = ((content, Place(name, path, here.folder, here.year)) for content, name in job.entries)
            return [each for each in named if each[0] in lying]
        here, out = job.place(path), []
        for content in job.record.contents:
            at = lying.get(content, {})
            out += [(content, Place(old.path, path, here.folder, here.year)) for old in at.get(path, ())]
            names = (path + old.path[len(twin.path) :] for old in at.get(twin.path, ()))
            out += [(content, Place(name, path, here.folder, here.year)) for name in names]
        return out

    def _note(self, jobs: Sequence[Job], gone: Sequence[Record]) -> None:
        for record in (*(job.record for job in jobs), *gone):
            if record.path in self.known:
                self._by_digest[self.known.pop(record.path).digest].pop(record.path, None)
        for job in jobs:
            self.known[job.record.path] = job.record
            self._place(job.record)

    def _place(self, record: Record) -> None:
        if record.error is None:
            self._by_digest[record.digest][record.path] = None


def _by_origin(places: set[Place]) -> dict[str, list[Place]]:
    out: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        out[place.origin].append(place)
    return out
