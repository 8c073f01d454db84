"""One table of a LanceDB database, as readers and the writer see it: opened when it is there, asked in steady words."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from btoks.errors import BtoksError
from btoks.library import filters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from btoks.library.objects import Home

_T = TypeVar("_T")


def connected(folder: Home) -> Any:
    """The database in a folder, always up to date."""
    os.environ.setdefault("LANCE_LOG", "error")  # read at the first import: a line a search on stderr otherwise
    import lancedb

    return lancedb.connect(str(folder), read_consistency_interval=timedelta(0))


def upsert(table: Any, data: Any, key: str) -> None:
    """Write rows by their key, in one commit."""
    table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(data)


class Table:
    """A table by its name; `columns` are those that a condition may name."""

    def __init__(self, database: Any, name: str, columns: Callable[[], list[str]]) -> None:
        self.database, self.name = database, name
        self._columns, self._opened = columns, None

    @property
    def opened(self) -> Any:
        """The table itself; None while there is none."""
        if self._opened is None and self.name in self.database.list_tables().tables:
            self._opened = self.database.open_table(self.name)
        return self._opened

    def make(self, schema: Any) -> Any:
        """The table, made empty."""
        self._opened = self.database.create_table(self.name, schema=schema)
        return self._opened

    def rows(self, where: str | None, columns: Sequence[str] | None) -> Any:
        """The rows that a condition holds for, as an arrow table; None while there is no table."""

        def ask(table: Any) -> Any:
            query = table.search().select(list(columns or table.schema.names))
            query = query.where(where) if where else query
            return query.limit(max(table.count_rows(), 1)).to_arrow()

        return self.read(ask, None, where)

    def read(self, ask: Callable[[Any], _T], nothing: Any, where: str | None = None) -> _T:
        """Ask the table; once more if it was cleaned up under the question. No message of the engine's gets out."""
        try:
            table = self.opened
            if table is None:
                return nothing  # type: ignore[no-any-return]
            try:
                return ask(table)
            except (RuntimeError, OSError, ValueError) as error:
                if "not found" not in str(error).lower():
                    raise
                table.checkout_latest()
                return ask(table)
        except (RuntimeError, OSError, ValueError) as error:
            if where is not None and isinstance(error, ValueError):
                raise filters.refusal(where, str(error), self._columns()) from error
            raise BtoksError("library", "its table cannot be read", "see `btoks library check`") from error
