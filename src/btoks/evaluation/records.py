"""Tasks from folders of local records, in the form that training reads them (`btoks.training.readers`).

    folder/records.jsonl ──by meta-task and pool──▶ Task     query ──▶ its candidates, or all that its pool holds
    folder/pools.json    what a pool holds, where that is more than the positives of its records

Media are opened when they are embedded, at as many frames and pixels as the recipe `mini` trains with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from btoks.errors import BtoksError, did_you_mean
from btoks.evaluation.mmeb.registry import META_TASKS
from btoks.evaluation.task import DataError, Entry, Task
from btoks.media import Decoder, Limits
from btoks.training.layers import layers as layers_of
from btoks.training.layers import objects
from btoks.training.readers import side_of
from btoks.training.recipes.mini import FRAMES, PIXELS
from btoks.training.rows import decoded

NAMES = dict(
    zip(
        (
            *(f"image_{task}" for task in ("cls", "qa", "ret", "vg")),
            *(f"video_{task}" for task in ("cls", "qa", "ret", "mret")),
            "visdoc",
        ),
        META_TASKS,
        strict=True,
    )
)
"""The benchmark's name of each meta-task of the records."""
_OF_ANY_SPLIT = ("image_cls", "video_cls")
_FIELDS = ("id", "meta_task", "split", "query", "positives")
Record = Mapping[str, Any]


def tasks(
    data: Path, split: str = "test", *, layers: bool = True, frames: int = FRAMES, pixels: int = PIXELS
) -> list[Task]:
    """A task for each meta-task of each folder, or each of its pools where it has several, in the benchmark's order.

    A page goes in as its picture and its text; with `layers=False` as its picture alone.

    >>> [task.name for task in tasks(Path("data"))][:2]  # doctest: +SKIP
    ['aquarium-image_cls', 'cards-image_cls']
    """
    files = sorted(data.glob("*/records.jsonl"))
    if not files:
        raise BtoksError(str(data), "no folder of it holds a records.jsonl", "name the folder that holds the data sets")
    folders = [_Folder.opened(file.parent, split) for file in files]
    splits = sorted({record["split"] for folder in folders for record in folder.records})
    if split not in splits:
        raise BtoksError(f"split {split!r}", "no record is of it", did_you_mean(split, splits))
    opener = _Opener(Decoder(Limits(frames=frames)), frames, pixels)
    found = [task for folder in folders for task in folder.tasks(opener, layers=layers)]
    return sorted(found, key=lambda task: (META_TASKS.index(task.about["meta_task"]), task.name))


@dataclass(frozen=True)
class _Opener:
    """Decodes and shrinks as training does."""

    decoder: Decoder
    frames: int
    pixels: int

    def entry(self, name: str, given: Record, home: Path, layers: Mapping[str, str]) -> Entry:
        """A side of a record, its media opened."""
        try:
            item = decoded(side_of(given, home, layers), self.decoder.load, self.pixels)
        except BtoksError as error:
            return Entry(name, broken=str(error))
        return Entry(name, **item)


@dataclass(frozen=True)
class Entries(Sequence[Entry]):
    """Sides of records by id, each opened when it is asked for."""

    opener: _Opener
    home: Path
    sides: Mapping[str, Record]
    layers: Mapping[str, str]

    @cached_property
    def ids(self) -> list[str]:
        """The ids, without opening anything."""
        return list(self.sides)

    def __len__(self) -> int:
        return len(self.sides)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        chosen = self.ids[index]
        if isinstance(chosen, list):
            return [self._opened(name) for name in chosen]
        return self._opened(chosen)

    def _opened(self, name: str) -> Entry:
        return self.opener.entry(name, self.sides[name], self.home, self.layers)


@dataclass(frozen=True)
class _Folder:
    """A data set's records of all splits, and what its pools are said to hold."""

    home: Path
    split: str
    records: Sequence[Record]
    pools: Mapping[str, Sequence[Any]]

    @classmethod
    def opened(cls, home: Path, split: str) -> _Folder:
        """Read the records and the pools."""
        try:
            records = objects(home / "records.jsonl")
            file = home / "pools.json"
            pools = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise BtoksError(str(home), f"its records cannot be read ({error})", "mend them") from error
        for number, record in enumerate(records, start=1):
            lacks = [field for field in _FIELDS if field not in record]
            lacks += [] if "candidates" in record or "pool" in record else ["candidates or pool"]
            if lacks:
                raise DataError(f"{home / 'records.jsonl'} line {number}", f"it has no {lacks[0]}", "add it")
        return cls(home, split, records, pools)

    def tasks(self, opener: _Opener, *, layers: bool) -> list[Task]:
        """The folder's tasks. Pools of pages are languages of one task, other pools are tasks of their own."""
        groups: dict[tuple[str, str | None], list[Record]] = {}
        for record in self.records:
            if record["split"] == self.split:
                pool = None if record["meta_task"] == "visdoc" else record.get("pool")
                groups.setdefault((record["meta_task"], pool), []).append(record)
        several = [meta_task for meta_task, _ in groups]
        return [
            self._task(
                f"{self.home.name}-{str(pool).rpartition('/')[2] if several.count(meta_task) > 1 else meta_task}",
                meta_task,
                records,
                opener,
                layers=layers,
            )
            for (meta_task, pool), records in groups.items()
        ]

    def _task(self, name: str, meta_task: str, records: Sequence[Record], opener: _Opener, *, layers: bool) -> Task:
        if meta_task not in NAMES:
            raise DataError(name, f"no meta-task {meta_task!r}", did_you_mean(meta_task, NAMES))
        pages = meta_task == "visdoc"
        texts = layers_of(self.home) if pages and layers else {}
        corpus, candidates = self._choices(meta_task, records)
        about = {
            "modality": meta_task.partition("_")[0],
            "meta_task": NAMES[meta_task],
            "split": self.split,
            "frames": opener.frames,
            "pixels": opener.pixels,
        }
        return Task(
            name,
            Entries(opener, self.home, {str(record["id"]): record["query"] for record in records}, texts),
            Entries(opener, self.home, corpus, texts),
            {str(record["id"]): {_name(each): 1.0 for each in record["positives"]} for record in records},
            candidates,
            "ndcg_linear@5" if pages else "hit@1",
            about | ({"layers": layers} if pages else {}),
        )

    def _choices(
        self, meta_task: str, records: Sequence[Record]
    ) -> tuple[dict[str, Record], dict[str, list[str]] | None]:
        """All candidates by id, and what each query chooses from unless it is all of them."""
        corpus: dict[str, Record] = {}
        pools: dict[str, list[str]] = {}
        own: dict[str, list[str]] = {}
        for record in records:
            if "candidates" in record:
                own[str(record["id"])] = _named(record["candidates"], corpus)
                continue
            pool = record["pool"]
            if pool not in pools:
                pools[pool] = _named(self._pool(pool, meta_task), corpus)
            own[str(record["id"])] = pools[pool]
        return corpus, None if all(len(each) == len(corpus) for each in own.values()) else own

    def _pool(self, pool: str, meta_task: str) -> Iterable[Record]:
        """What its file lists, or else the positives of the pool's records: of the split, or of all for labels."""
        if pool in self.pools:
            return [{"page": each} if isinstance(each, str) else each for each in self.pools[pool]]
        of_all = meta_task in _OF_ANY_SPLIT
        return (
            positive
            for record in self.records
            if record.get("pool") == pool and (of_all or record["split"] == self.split)
            for positive in record["positives"]
        )


def _named(sides: Iterable[Record], corpus: dict[str, Record]) -> list[str]:
    """The ids of sides in their order, each once; those that are new go into the corpus."""
    found = {_name(side): side for side in sides}
    for name, side in found.items():
        corpus.setdefault(name, side)
    return list(found)


def _name(side: Record) -> str:
    """An id that tells a candidate from every other: its text or path, or for what has more than one part a digest."""
    known = {key: side[key] for key in ("text", "image", "box", "page", "number", "video") if key in side}
    first = next(iter(known.values()))
    if len(known) == 1 and isinstance(first, str):
        return first
    whole = json.dumps(known, ensure_ascii=False).encode()
    return f"{first if isinstance(first, str) else first[0]}#{hashlib.blake2b(whole, digest_size=6).hexdigest()}"
