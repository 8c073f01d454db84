"""The page format: texts ask for document pages, all pages of the set answer, graded labels say which are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from btoks.evaluation.mmeb.loading import Found, Loading, picture
from btoks.evaluation.mmeb.tables import Table
from btoks.evaluation.task import Entry

_LINE = (" ", "")


def pages(loading: Loading) -> Found:
    """Three tables: queries, corpus, qrels. Labels of 0 do not count; of a label given twice the higher one does."""
    row = loading.row
    tables = {config: loading.table(config) for config in ("queries", "corpus", "qrels")}
    queries = [
        Entry(str(record["query-id"]), text=record["query"], instruction=str(row.query), spacing=_LINE)
        for record in tables["queries"].rows(["query-id", "query"])
    ]
    relevant: dict[str, dict[str, float]] = {}
    for record in tables["qrels"].rows(["query-id", "corpus-id", "score"]):
        if record["score"] > 0:
            gains = relevant.setdefault(str(record["query-id"]), {})
            page = str(record["corpus-id"])
            gains[page] = max(gains.get(page, 0.0), float(record["score"]))
    corpus = Pages(tables["corpus"], row.candidate, loading.repository.folder)
    return Found(queries, corpus, relevant, None, tables)


class Pages(Sequence[Entry]):
    """The pages of a table, each read when it is asked for: a set of pages does not fit into memory."""

    def __init__(self, table: Table, instruction: str, folder: Path) -> None:
        self.table, self.instruction, self.folder = table, instruction, folder
        place_of: dict[str, int] = {}
        for place, record in enumerate(table.rows(["corpus-id"])):
            place_of.setdefault(str(record["corpus-id"]), place)
        self.ids, self._places = list(place_of), list(place_of.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Entry]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        try:
            shown = self._shown(self.table.cell(self._places[index], "image"))
        except (OSError, ValueError) as error:
            shown = {"broken": f"page {self.ids[index]}: {error}"}
        return Entry(self.ids[index], instruction=self.instruction, spacing=_LINE, **shown)

    def _shown(self, cell: Any) -> dict[str, Any]:
        held = cell if isinstance(cell, dict) else {"bytes": cell}
        if held.get("bytes"):
            return {"image": held["bytes"]}
        return picture(self.folder, held["path"]) if held.get("path") else {"broken": "a page without a picture"}
