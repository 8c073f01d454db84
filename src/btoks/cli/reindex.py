"""`btoks reindex`: another model, or other codes, for a whole library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.index import Rescore
from btoks.cli.library import LIBRARY
from btoks.cli.screen import Device, Json, emit, progress, quiet, tell

if TYPE_CHECKING:
    from btoks.library.reindex import Report

Where = Annotated[Any, LIBRARY]


def reindex(
    ctx: typer.Context,
    library: Where,
    *,
    model: Annotated[str | None, typer.Option(help="Embed everything by this model: a folder or a hub id.")] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Keep codes instead of vectors, such as pca:0.5+float8; float32 keeps vectors.")
    ] = None,
    rescore: Rescore = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another process that writes.")] = 60.0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Change a library's model or codes. Example: btoks reindex mine --quantize pca:0.5+float8

    The new state is built beside the old one, which is searched until then, and put in its place in one step. Killed,
    it leaves the library as it was, and the next run goes on. With --quantize alone nothing is embedded, unless the
    vectors themselves are codes already.
    """
    quiet(ctx)
    from btoks.library import Library

    opened = Library.open(library, device=device)

    def line(report: Report) -> str:
        return f"{report.done} of {report.rows} items, {report.embedded} embedded, {len(report.errors)} bad"

    with progress("opening the model" if model else "reading", line) as told:
        report = opened.reindex(model=model, quantize=quantize, rescore=rescore, progress=told, wait=wait, waiting=tell)
    for error in report.errors:
        tell(f"bad item {error}")
    facts = opened.stats()
    if as_json:
        errors = [str(error) for error in report.errors]
        emit({"rows": facts["rows"], "embedded": report.embedded, "errors": errors, "bytes": facts["bytes"]})
    else:
        tell(f"{facts['rows']} items, {report.embedded} embedded, {facts['bytes']:,} bytes; in {library}")
