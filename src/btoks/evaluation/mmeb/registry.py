"""The 78 data sets as a table of data. A data set of a known format is one more line in `datasets.json`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from btoks.errors import BtoksError, did_you_mean

REVISIONS = ("fixed", "2.0")
MODALITIES = ("image", "video", "visdoc")
META_TASKS = ("I-CLS", "I-QA", "I-RET", "I-VG", "V-CLS", "V-QA", "V-RET", "V-MR", "VD")


@dataclass(frozen=True)
class Row:
    """A data set: where it lies, how it is read, what it asks, how it is scored.

    `queries` and `corpus` are its true counts, `key` its published name. `options` are the format's own; `older` holds
    what another revision has instead.
    """

    name: str
    modality: str
    meta_task: str
    format: str
    repo: str
    split: str
    metric: str
    queries: int
    query: str | Mapping[str, str]
    candidate: str = ""
    config: str | Sequence[str] | None = None
    corpus: int | None = None
    group: str | None = None
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    older: Mapping[str, Any] = field(default_factory=dict)

    def at(self, revision: str) -> Row:
        """The data set as a revision of the benchmark has it."""
        return self if revision == "fixed" else replace(self, **self.older)

    @property
    def published(self) -> str:
        """The name in the benchmark's own result files."""
        return self.key or self.name


@functools.cache
def table() -> tuple[Row, ...]:
    """All data sets in the benchmark's order."""
    return tuple(Row(**row) for row in _file("datasets.json")["rows"])


@functools.cache
def labels() -> Mapping[str, Sequence[str]]:
    """The label lists of the data sets whose candidates are all classes."""
    found: Mapping[str, Sequence[str]] = _file("labels.json")
    return found


def media() -> dict[str, Any]:
    """The repository that holds the media, and its archives: parts, where they unpack to, what is cut off."""
    found: dict[str, Any] = _file("datasets.json")["media"]
    return found


def select(
    *, modality: str | None = None, task: str | None = None, dataset: str | None = None, revision: str = "fixed"
) -> list[Row]:
    """The data sets of a modality, a meta-task (or group of one), or one by name; all without any.

    >>> [row.name for row in select(task="V-MR")]
    ['QVHighlight', 'Charades-STA', 'MomentSeeker']
    """
    rows = table()
    groups = sorted({row.group for row in rows if row.group})
    for what, value, known in (
        ("modality", modality, MODALITIES),
        ("task", task, (*META_TASKS, *groups)),
        ("dataset", dataset, [row.name for row in rows]),
        ("revision", revision, REVISIONS),
    ):
        if value is not None and value not in known:
            raise BtoksError(f"{what} {value!r}", "there is none", did_you_mean(value, known))
    found = [
        row.at(revision)
        for row in rows
        if modality in (None, row.modality) and task in (None, row.meta_task, row.group) and dataset in (None, row.name)
    ]
    if not found:
        raise BtoksError("selection", "no data set fits all of it", "leave one of modality, task and dataset out")
    return found


def _file(name: str) -> Any:
    return json.loads((resources.files(__package__) / name).read_text(encoding="utf-8"))
