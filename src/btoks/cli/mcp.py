"""`btoks mcp`: libraries as tools for assistants that speak the Model Context Protocol."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from btoks.cli.library import LIBRARY, Where
from btoks.cli.screen import Device, quiet
from btoks.errors import BtoksError


def mcp(
    ctx: typer.Context,
    folders: Annotated[list[Any] | None, LIBRARY] = None,
    *,
    library: Where,
    device: Device = None,
) -> None:
    """Search, read and ask as tools over standard input and output. Example: btoks mcp mine

    For the configuration of an assistant: the command is `btoks`, its arguments are `mcp` and the folders.
    """
    if importlib.util.find_spec("mcp") is None:
        raise BtoksError("btoks mcp", "the package mcp is not installed", "pip install 'btoks[mcp]'")
    quiet(ctx)
    import anyio

    from btoks.library import Library
    from btoks.server.plan import by_name
    from btoks.server.tools import server

    named = by_name(folders or [library])
    opened = {name: Library.open(folder, device=device) for name, folder in named.items()}
    anyio.run(server(opened).run_stdio_async)
