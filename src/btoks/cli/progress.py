"""How far a benchmark is, on the screen: every command of `btoks eval` that embeds shows it alike."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.evaluation.progress import Progress

_EVERY = 10.0  # seconds between two plain lines of progress


@contextmanager
def shown(progress: Progress) -> Iterator[Callable[[int, bool], None]]:
    """A live line on a terminal, a plain line now and then elsewhere, nothing from the other processes."""
    from btoks.evaluation import processes

    if processes.rank() or not sys.stderr.isatty():
        last = time.monotonic()

        def plain(count: int, cached: bool) -> None:
            nonlocal last
            progress.step(count, cached)
            if not processes.rank() and time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                typer.echo(progress.line(), err=True)

        yield plain
        return
    from rich.console import Console

    with Console(stderr=True).status(progress.line()) as status:

        def live(count: int, cached: bool) -> None:
            progress.step(count, cached)
            status.update(progress.line())

        yield live
