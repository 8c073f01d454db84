"""`btoks index`: bring a library up to date with files and folders."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.library import Where
from btoks.cli.screen import MODEL, Device, Json, emit, quiet
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.library import Library
    from btoks.library.ingest import Report

_EVERY = 10.0  # seconds between two plain lines of progress
Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders.")]
Model = Annotated[
    str | None, typer.Option(help="The model of a new library: a folder or a hub id.", show_default=MODEL)
]


def index(
    ctx: typer.Context,
    paths: Paths,
    *,
    library: Where,
    model: Model = None,
    prune: Annotated[bool, typer.Option("--prune", help="Forget files that are gone.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Prune even if a path or most of its files are gone.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another process that writes.")] = 60.0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Make files findable, each once; unchanged ones cost a look. Example: btoks index ~/photos ~/papers

    Pictures, videos, PDFs, texts, HTML, zip and tar archives of these, and tables (.jsonl, .csv, .tsv, Parquet) with
    a column text, image or video. Hidden files are left out. Bad files are named on stderr and do not stop the run;
    an interrupted run goes on where it stopped.
    """
    if force and not prune:
        raise BtoksError("--force", "it belongs to --prune", "add that, or leave it out")
    quiet(ctx)
    opened = _opened(library, model, device)
    with _progress() as progress:
        report = opened.add(paths, prune=prune, force=force, progress=progress, wait=wait, waiting=_tell)
    for error in report.errors:
        _tell(f"bad file {error}")
    if as_json:
        emit({**vars(report), "errors": [str(error) for error in report.errors], "library": str(library)})
    else:
        _tell(
            f"{report.files} files: {report.unchanged} unchanged, {report.reused} known content, "
            f"{report.embedded} parts embedded, {report.removed} removed, {len(report.errors)} bad; in {library}"
        )


def _opened(folder: Path, model: str | None, device: str | None) -> Library:
    from btoks.library import Library

    if not (folder / "library.json").is_file():
        return Library.create(folder, model=model or MODEL, device=device)
    opened = Library.open(folder, device=device)
    if model is not None and not opened.made_with(model):
        reason = f"it was made with {opened.stats()['model']}"
        raise BtoksError(str(folder), reason, "leave --model out, or index into another --library")
    return opened


def _tell(line: str) -> None:
    typer.echo(line.encode("utf-8", "replace").decode(), err=True)


@contextmanager
def _progress() -> Iterator[Callable[[Report], Any]]:
    """How far a run is: a live line on a terminal, a plain line now and then elsewhere."""
    started = last = time.monotonic()

    def line(report: Report) -> str:
        seconds = max(time.monotonic() - started, 1e-9)
        rate = report.done / seconds
        left = (report.total - report.done) / rate if rate else 0
        times = f"{rate:.1f} a second, {int(left) // 60}:{int(left) % 60:02d} left"
        return f"{report.done} of {report.total} files, {times}, {len(report.errors)} bad"

    def plain(report: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            _tell(line(report))

    if not sys.stderr.isatty():
        yield plain
        return
    from rich.console import Console

    with Console(stderr=True).status("looking for files") as status:
        yield lambda report: status.update(line(report))
