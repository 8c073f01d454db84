"""`btoks embed`: files or JSON lines in, embeddings out, streamed."""

import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from btoks.cli.screen import MODEL, Device, Model, counter, emit, opened
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from btoks.cli.rows import Row

_FILES = "Texts, pictures, videos, PDFs (a row a page) or folders; none: JSON lines on stdin."
_OUT = "A .npy, .parquet or .jsonl file; JSON lines on stdout without."
Task = Annotated[Literal["query", "document"] | None, typer.Option(help="Use the model's prompt for this side.")]
OnError = Annotated[Literal["raise", "skip"], typer.Option(help="Stop at a bad item, or report it and go on.")]


@dataclass
class _Tally:
    """What became of the rows so far."""

    embedded: int = 0
    skipped: int = 0
    dim: int = 0
    started: float = field(default_factory=time.monotonic)


def embed(
    ctx: typer.Context,
    files: Annotated[list[str] | None, typer.Argument(help=_FILES)] = None,
    *,
    model: Model = MODEL,
    task: Task = None,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out: print the summary as JSON.")] = False,
    on_error: OnError = "raise",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a batch, padding included.")] = 16_384,
    device: Device = None,
) -> None:
    """Embed files, folders, or JSON lines. Example: btoks embed photos/ --out photos.parquet

    A line on stdin may hold "id", "text", "image", "video" (paths, URLs, data URLs), "page" (of a PDF named in
    "image"), "start" and "end" (seconds of "video"). A line of output holds "id", "path" and "embedding"; the id of a
    PDF page ends in #page=N. A .npy file has its ids in .ids.jsonl beside it. With --on-error skip bad items are
    named on stderr, and the command fails only if nothing could be embedded.
    """
    from btoks.cli import rows, writers

    if out is not None:
        writers.check(out)
    if not files and sys.stdin.isatty():
        raise BtoksError("input", "no files given", "name some, or pipe JSON lines in")
    source = rows.from_files(files) if files else rows.from_lines(sys.stdin.buffer)
    options = {"task": task, "max_batch_tokens": batch_tokens, "on_error": on_error}
    tally = _run(opened(ctx, model, device), source, out, options)
    if as_json and out is not None:
        emit({"out": str(out), "embedded": tally.embedded, "skipped": tally.skipped, "dim": tally.dim})
    else:
        _summary(tally, out)


def _run(model: Any, source: "Iterator[Row]", out: Path | None, options: dict[str, Any]) -> _Tally:
    from btoks.cli import rows, writers

    tally = _Tally()
    with ExitStack() as stack:
        add = _printed if out is None else stack.enter_context(writers.writing(out)).add
        step = stack.enter_context(counter("embedded"))
        for row, vector_D in stack.enter_context(closing(rows.embedded(model, source, **options))):
            if vector_D is None:
                _skip(row, tally, skipping=options["on_error"] == "skip")
            else:
                add(row, vector_D)
                tally.embedded, tally.dim = tally.embedded + 1, len(vector_D)
                step()
        if not tally.embedded:
            bad = f"none of its {tally.skipped} items could be embedded" if tally.skipped else "it holds no items"
            raise BtoksError("input", bad, "pass files, or JSON lines on stdin")
    return tally


def _skip(row: "Row", tally: _Tally, *, skipping: bool) -> None:
    """Name a bad row and count it, or end the run with it."""
    error = row.error or BtoksError(row.id, "it has no embedding", "pass another")
    if not skipping:
        raise error
    tally.skipped += 1
    named = str(error) if row.id.startswith(error.item) else f"{row.id}: {error}"
    typer.echo(f"skipped {named}", err=True)


def _printed(row: "Row", vector_D: "NDArray[np.float32]") -> None:
    from btoks.cli.writers import line

    typer.echo(line(row, vector_D))


def _summary(tally: _Tally, out: Path | None) -> None:
    seconds = time.monotonic() - tally.started
    place = f" to {out}" if out is not None else ""
    line = f"{tally.embedded} embedded{place} ({tally.dim} dimensions), {tally.skipped} skipped, {seconds:.1f} s"
    typer.echo(line, err=True)
