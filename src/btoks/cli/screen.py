"""What every command shares: what it prints, how it counts, and how it opens a model without noise."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sentence_transformers import SentenceTransformer

MODEL = "btoks-mini"
_EVERY = 10.0  # seconds between two plain lines of progress

Model = Annotated[str, typer.Option(help="A model folder or a hub id.", show_default=True)]
Device = Annotated[str | None, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, mps …", show_default="best")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass
class Session:
    """What holds for one run of the command."""

    debug: bool = False


def quiet(ctx: typer.Context) -> None:
    """Silence the progress bars, load reports and warnings of the libraries, unless `--debug` is given."""
    if ctx.obj.debug:
        return
    import warnings

    os.environ.setdefault("TQDM_DISABLE", "1")  # read where tqdm is first imported, for bars that nobody else can stop
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    libraries: Any = logging
    warnings.simplefilter("ignore")
    disable_progress_bars()
    libraries.disable_progress_bar()
    libraries.set_verbosity_error()


def opened(ctx: typer.Context, model: str, device: str | None = None) -> SentenceTransformer:
    """The model a command was given."""
    quiet(ctx)
    import btoks

    return btoks.load(model, device=device)


def emit(record: Mapping[str, Any]) -> None:
    """Print one JSON object on a line."""
    typer.echo(json.dumps(record))


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; away from a terminal no cell is folded."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = tuple(columns)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 400).print(shown)


def tell(line: str) -> None:
    """A line on stderr, whatever names it holds."""
    typer.echo(line.encode("utf-8", "replace").decode(), err=True)


@contextmanager
def progress(before: str, line: Callable[[Any], str]) -> Iterator[Callable[[Any], None]]:
    """How far a long run is, as `line` says it: a live line on a terminal, a plain line now and then elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(before) as status:
            yield lambda report: status.update(line(report))
        return
    last = time.monotonic()

    def plain(report: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            tell(line(report))

    yield plain


@contextmanager
def counter(what: str) -> Iterator[Callable[[], None]]:
    """A running count on stderr, one more a call: a live line on a terminal, plain lines now and then elsewhere."""
    if sys.stderr.isatty():
        with _live(what) as live:
            yield live
        return
    count, last = 0, time.monotonic()

    def step() -> None:
        nonlocal count, last
        count += 1
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            typer.echo(f"{count} {what}", err=True)

    yield step


@contextmanager
def _live(what: str) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda: progress.advance(task)
