"""Libraries as tools of the Model Context Protocol: search, read and ask, over standard input and output."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

import btoks
from btoks.errors import BtoksError, did_you_mean
from btoks.server.problems import ProblemError
from btoks.server.shelf import Shelf, seen, shown_hit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mcp.server.mcpserver import MCPServer

    from btoks.library import Library

_ABOUT = (
    "Finds pictures, videos, document pages and texts in the user's own libraries by what they show or say. Search "
    "first; then read a hit by its id, or ask a question that is answered from the best hits."
)
_LONGEST = 20_000
_TURN = threading.Lock()
Words = Annotated[str, Field(description="What to look for, in plain words.", min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=50, description="The most hits.")]
Where = Annotated[str | None, Field(description="A condition in SQL on kind, folder, path, year, page: kind = 'image'")]
Least = Annotated[float | None, Field(ge=0, le=1, description="The least score; 0 shows even what does not match.")]
Which = Annotated[str | None, Field(description="A library's name; the first one if left out.")]


def server(libraries: Mapping[str, Library]) -> MCPServer[Any]:
    """A server of tools for some libraries by name."""
    from mcp.server.mcpserver import MCPServer

    tools: MCPServer[Any] = MCPServer(
        "btoks", instructions=_ABOUT, version=btoks.__version__, log_level="ERROR", subscriptions=False
    )

    own = _Tools({name: Shelf(name, library) for name, library in libraries.items()})
    for tool in (own.search, own.read, own.ask):
        tools.add_tool(tool)
    return tools


@dataclass(frozen=True)
class _Tools:
    """What an assistant can call."""

    shelves: Mapping[str, Shelf]

    def _chosen(self, name: str | None) -> Shelf:
        if name is None:
            return next(iter(self.shelves.values()))
        if name not in self.shelves:
            raise BtoksError(f"library {name!r}", "there is none", did_you_mean(name, self.shelves))
        return self.shelves[name]

    def search(
        self, query: Words, k: Count = 10, where: Where = None, min_score: Least = None, library: Which = None
    ) -> list[dict[str, Any]]:
        """Find items by a text; each hit has an id, its path, page or time, a score from 0 to 1, and its text if any.

        No hit means that nothing there matches.
        """
        with _told():
            hits = self._chosen(library).library.search(query, k, where, min_score)
        return [shown_hit(hit) for hit in hits]

    def read(self, item: Annotated[str, Field(description="A hit's id.")], library: Which = None) -> dict[str, Any]:
        """Read one item by its id: its whole text, where it is, and what else is known of it."""
        with _told():
            row = self._chosen(library).row(item)
        keys = ("id", "kind", "page", "start", "end", "year")
        text = (row["text"] or "")[:_LONGEST] or None
        return {**{key: row[key] for key in keys}, "path": seen(row["path"]), "text": text}

    def ask(self, question: Words, k: Count = 3, where: Where = None, library: Which = None) -> dict[str, Any]:
        """Answer a question from the best hits with the library's own model, and name the sources."""
        with _told():
            answer = self._chosen(library).library.ask(question, k, where=where)
        return {"answer": answer.text, "sources": [shown_hit(hit) for hit in answer.sources]}


@contextmanager
def _told() -> Iterator[None]:
    """One call at a time, since all share a model; what is wrong with it is told to whoever called."""
    from mcp.server.mcpserver.exceptions import ToolError

    with _TURN:
        try:
            yield
        except (BtoksError, ProblemError) as error:
            raise ToolError(str(error)) from error
