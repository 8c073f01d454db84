"""What every loader is given and gives back: entries collected in first-seen order, media or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btoks.evaluation.mmeb.data import Data
from btoks.evaluation.mmeb.media import frame_files, within
from btoks.evaluation.mmeb.registry import Row
from btoks.evaluation.mmeb.tables import Repository, Table
from btoks.evaluation.task import DataError, Entry


@dataclass(frozen=True)
class Loading:
    """One data set being read: its row, its annotations, and how many frames of a folder are shown."""

    row: Row
    data: Data
    repository: Repository
    frames: int
    exact: bool

    def table(self, config: str | None) -> Table:
        """A configuration's table."""
        return self.repository.table(config, self.row.split)

    def home(self) -> Path:
        """The folder of the data set's media."""
        options = self.row.options
        return self.data.media(self.row.name, options.get("archive", "image"), options.get("folders", ["image-tasks"]))

    def agree(self, said: object, known: str) -> None:
        """Refuse data whose instruction is not the table's; white space and the old placeholder do not count."""
        text = str(said or "").replace("<|image_1|>", "").strip()
        if self.exact and text and text != known.strip():
            raise DataError(
                self.row.name, f"its data ask {text!r}, the table {known.strip()!r}", "use --any-counts to go on"
            )


@dataclass(frozen=True)
class Found:
    """What a loader gives back: a task's parts, and the tables they came from."""

    queries: Sequence[Entry]
    corpus: Sequence[Entry]
    relevant: dict[str, dict[str, float]]
    candidates: dict[str, list[str]] | None
    tables: Mapping[str, Table]


class Collected:
    """Queries and candidates as they come, row by row. A candidate that comes again is the one that came first."""

    def __init__(self, *, local: bool) -> None:
        self.queries: list[Entry] = []
        self.corpus: dict[str, Entry] = {}
        self.relevant: dict[str, dict[str, float]] = {}
        self.candidates: dict[str, list[str]] | None = {} if local else None

    def candidate(self, entry: Entry) -> str:
        """Add a candidate unless it is there, and give its id back."""
        self.corpus.setdefault(entry.id, entry)
        return entry.id

    def query(self, entry: Entry, relevant: Sequence[str], candidates: Sequence[str] | None = None) -> None:
        """Add a query with what is relevant, and its own list where it has one."""
        self.queries.append(entry)
        self.relevant[entry.id] = dict.fromkeys(relevant, 1.0)
        if self.candidates is not None:
            self.candidates[entry.id] = list(candidates or ())

    def found(self, tables: Mapping[str, Table]) -> Found:
        """All of it."""
        return Found(self.queries, list(self.corpus.values()), self.relevant, self.candidates, tables)


def picture(root: Path, name: str) -> dict[str, Any]:
    """A picture below a root as fields of an entry."""
    path = within(root, name)
    return {"image": path} if path is not None else {"broken": f"{root / name}: not there"}


def clip(root: Path, name: str, frames: int | None) -> dict[str, Any]:
    """The frames of a folder below a root as fields of an entry."""
    folder = within(root, name)
    files = frame_files(folder, frames) if folder is not None else []
    return {"video": list(map(str, files))} if files else {"broken": f"{root / name}: no frames there"}
