"""What a library was after each write, and making it so again while the store still has it.

history.jsonl   a line a write: its number, time, what was done, and the version that each table had after it
restore.json    there only while a restore is under way: a killed one is finished by the next writer, so that items
                and files are always of one version
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.disk import append_line, remove, replace_file
from btoks.library.interface import LANCE
from btoks.library.tables import connected

if TYPE_CHECKING:
    from btoks.library.objects import Home
    from btoks.library.view import View

_HISTORY, _RESTORE = "history.jsonl", "restore.json"


@dataclass(frozen=True)
class Version:
    """A library after a write: the versions of its tables, and whether all of them are still there."""

    version: int
    time: str
    did: str
    rows: int
    files: int
    tables: dict[str, int]
    restorable: bool = False

    def json(self) -> dict[str, Any]:
        """The version as `--json` prints it."""
        return {key: value for key, value in asdict(self).items() if key != "tables"}


def note(view: View, did: str) -> None:
    """Write down what the library is now, unless nothing has changed."""
    if view.noted.store != LANCE:
        return
    opened, known = _tables(view), _noted(view.folder)
    tables = {name: int(table.version) for name, table in opened.items()}
    if not tables or (known and known[-1].tables == tables):
        return
    rows, files = (opened[name].count_rows() if name in opened else 0 for name in (view.noted.table, "files"))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last = Version(known[-1].version + 1 if known else 1, now, did, rows, files, tables)
    line = {key: value for key, value in asdict(last).items() if key != "restorable"}
    append_line(view.folder / _HISTORY, json.dumps(line))


def versions(view: View) -> list[Version]:
    """Every version that was noted, the first one first."""
    there = {name: {each["version"] for each in table.list_versions()} for name, table in _tables(view).items()}
    return [
        Version(**{**vars(each), "restorable": _kept(each.tables, there, view.noted.table)})
        for each in _noted(view.folder)
    ]


def restore(view: View, version: int) -> None:
    """Make a version current again, which makes a new one."""
    known = {each.version: each for each in versions(view)}
    left = ", ".join(str(each.version) for each in known.values() if each.restorable) or "none"
    if version not in known:
        raise BtoksError(f"version {version}", "there is none", f"choose one of: {left}")
    if not known[version].restorable:
        reason = "a compaction or a reindex has removed its data"
        raise BtoksError(f"version {version}", reason, f"choose one of those that are left: {left}")
    replace_file(view.folder / _RESTORE, json.dumps(known[version].tables).encode())
    finish(view)


def finish(view: View) -> None:
    """Go through with a restore that was begun, if there is one."""
    try:
        wanted: dict[str, int] = json.loads((view.folder / _RESTORE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    for name, table in _tables(view).items():
        if name in wanted:
            table.restore(wanted[name])
        else:  # the version is older than the table
            table.delete("true")
    remove(view.folder / _RESTORE)


def _kept(tables: dict[str, int], there: dict[str, set[int]], rows: str) -> bool:
    """Whether every table of a version is still there, and the rows are in the table of now."""
    same_rows = rows in tables or not any(name.startswith("items") for name in tables)
    return same_rows and all(version in there.get(name, ()) for name, version in tables.items())


def _tables(view: View) -> dict[str, Any]:
    """The library's tables by name."""
    database = connected(view.folder)
    found = {view.noted.table: view.lance.table}
    if "files" in database.list_tables().tables:
        found["files"] = database.open_table("files")
    if view.memories is not None:
        found[view.memories.name] = view.memories.table
    return {name: table for name, table in found.items() if table is not None}


def _noted(folder: Home) -> list[Version]:
    try:
        lines = (folder / _HISTORY).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            found.append(Version(**json.loads(line)))
    return found
