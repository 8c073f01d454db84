"""`btoks mcp` in a process of its own, asked by the official client."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from btoks.library import Library
from btoks.server.tools import server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def over_stdio(folder: Path, use: Callable[[Client], Awaitable[None]]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "btoks", "mcp", str(folder), "--device", "cpu"], env=environment
    )
    async with Client(stdio_client(parameters)) as client:
        await use(client)


async def in_process(libraries: dict[str, Library], use: Callable[[Client], Awaitable[None]]) -> None:
    async with Client(server(libraries)) as client:
        await use(client)


def told(result: Any) -> str:
    assert result.is_error
    return " ".join(block.text for block in result.content)


def test_search_and_read_over_stdio(folder: Path, library: Library) -> None:
    want = library.search("a red fox", k=4, min_score=0)
    text = next(hit for hit in want if hit.text)

    async def use(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "read", "ask"}
        found = await client.call_tool("search", {"query": "a red fox", "k": 4, "min_score": 0})
        hits = found.structured_content["result"]
        assert [(hit["id"], hit["path"], hit["kind"]) for hit in hits] == [(h.id, h.path, h.kind) for h in want]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in want], abs=1e-5)
        read = (await client.call_tool("read", {"item": text.id})).structured_content
        assert (read["id"], read["path"]) == (text.id, text.path)
        assert text.text in read["text"]

    asyncio.run(over_stdio(folder, use))


def test_filters_answers_and_mistakes(library: Library) -> None:
    want = library.ask("what is this?", 2, where="kind = 'text'")

    async def use(client: Client) -> None:
        given = {"query": "flag", "where": "kind = 'image'", "min_score": 0}
        hits = (await client.call_tool("search", given)).structured_content["result"]
        assert {hit["kind"] for hit in hits} == {"image"}
        asked = {"question": "what is this?", "k": 2, "where": "kind = 'text'"}
        answer = (await client.call_tool("ask", asked)).structured_content
        assert (answer["answer"], len(answer["sources"])) == (want.text, len(want.sources))
        assert "no such item" in told(await client.call_tool("read", {"item": "nothing"}))
        assert "did you mean 'kind'?" in told(await client.call_tool("search", {"query": "a", "where": "kin = 1"}))
        assert "did you mean 'mine'?" in told(await client.call_tool("search", {"query": "a", "library": "mind"}))
        assert (await client.call_tool("search", {"query": "a", "k": 0})).is_error

    asyncio.run(in_process({"mine": library}, use))
