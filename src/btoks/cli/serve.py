"""`btoks serve`: libraries and their models over HTTP, and the page in a browser."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.library import LIBRARY, Where
from btoks.cli.screen import Device, quiet
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.server.plan import Plan

_HERE = ("127.0.0.1", "localhost", "::1")
_GRACE = 30
Folders = Annotated[list[Any] | None, LIBRARY]
Token = Annotated[str | None, typer.Option(envvar="BTOKS_TOKEN", help="What every request has to bring.")]


def serve(
    ctx: typer.Context,
    folders: Folders = None,
    *,
    library: Where,
    model: Annotated[str | None, typer.Option(help="A model for embeddings: a folder or a hub id.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port.")] = 8000,
    token: Token = None,
    cors: Annotated[list[str] | None, typer.Option(help="An origin whose pages may ask; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own copy of the model.")] = 1,
    max_wait: Annotated[float, typer.Option(min=0, help="Milliseconds that a request waits for others.")] = 4.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a batch.")] = 16_384,
    max_queue: Annotated[int, typer.Option(min=1, help="Inputs that may wait; more are answered 429.")] = 256,
    max_upload: Annotated[int, typer.Option(min=1, help="MiB of a file that is sent.")] = 64,
    device: Device = None,
) -> None:
    """Search in a browser, and over HTTP. Example: btoks serve mine --port 8000

    Without a LIBRARY the one of --library is served; with --model alone, only embeddings. Another process may index
    into a library while it is served.
    """
    if host not in _HERE and not token:
        raise BtoksError(f"--host {host}", "others could read everything", "give a --token as well")
    quiet(ctx)
    from btoks.server.plan import Plan, by_name
    from btoks.server.state import Settings

    alone = model is not None and not folders and not (library / "library.json").is_file()
    settings = Settings(
        token or None, (*_HERE, host), tuple(cors or ()), max_wait / 1000, max_tokens, max_queue, max_upload << 20
    )
    named = {} if alone else by_name(folders or [library])
    with tempfile.TemporaryDirectory(prefix="btoks-serve-") as shared:
        _run(Plan(named, model, device, f"{shared}/uploads", settings), host, port, workers, Path(shared))


def _run(plan: Plan, host: str, port: int, workers: int, shared: Path) -> None:
    """Serve until a signal comes; requests under way are finished then."""
    import uvicorn

    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "timeout_graceful_shutdown": _GRACE,
        "access_log": False,
        "server_header": False,
        "log_config": _logging(),
    }
    if workers == 1:
        uvicorn.run(plan.application(), **options)
        return
    from btoks.library.objects import home
    from btoks.library.settings import read
    from btoks.server.plan import VARIABLE

    for folder in plan.libraries.values():
        read(home(folder))  # what is wrong with one is told once, not by every worker
    (shared / "metrics").mkdir()
    os.environ.update({VARIABLE: plan.text(), "PROMETHEUS_MULTIPROC_DIR": str(shared / "metrics")})
    uvicorn.run("btoks.server.plan:application", factory=True, workers=workers, **options)


def _logging() -> dict[str, Any]:
    """The server's own log, and ours in the same form."""
    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["btoks"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
