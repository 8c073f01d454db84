"""`btoks index`: bring a library up to date with files and folders."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from btoks.cli.library import Kept, Where, kept_in
from btoks.cli.screen import MODEL, Device, Json, emit, progress, quiet, tell
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.library import Library
    from btoks.library.ingest import Report

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, folders, and datasets: hf://org/name[:split].")
]
Model = Annotated[
    str | None, typer.Option(help="The model of a new library: a folder or a hub id.", show_default=MODEL)
]

Rescore = Annotated[
    str | None,
    typer.Option(help="With --quantize: rank the best by a finer copy, such as float16.", show_default="none"),
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="ray: embed on the cluster that RAY_ADDRESS names, or by processes.")
]


def index(
    ctx: typer.Context,
    paths: Paths,
    *,
    library: Where,
    model: Model = None,
    keep_memory: Annotated[
        bool, typer.Option("--keep-memory", help="Make a library that keeps each part's memory, for `btoks ask`.")
    ] = False,
    quantize: Annotated[
        str | None, typer.Option(help="Keep codes in a new library instead of vectors, such as pca:0.5+float8.")
    ] = None,
    rescore: Rescore = None,
    store: Kept = None,
    prune: Annotated[bool, typer.Option("--prune", help="Forget files that are gone.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Prune even if a path or most of its files are gone.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on: follow what changes, until Ctrl-C.")] = False,
    engine: Engine = "local",
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another process that writes.")] = 60.0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Make files findable, each once; unchanged ones cost a look. Example: btoks index ~/photos ~/papers

    Pictures, videos, PDFs, texts, HTML, zip and tar archives of these, and tables (.jsonl, .csv, .tsv, Parquet) with
    a column text, image or video. Hidden files are left out. Bad files are named on stderr and do not stop the run;
    an interrupted run goes on where it stopped. With --watch what changes later is followed, deletions with the same
    care as by --prune.
    """
    if force and not prune:
        raise BtoksError("--force", "it belongs to --prune", "add that, or leave it out")
    quiet(ctx)
    opened = _opened(library, model, device, store, keep_memory=keep_memory, quantize=quantize, rescore=rescore)
    with _progress() as told:
        report = opened.add(paths, prune=prune, force=force, progress=told, wait=wait, waiting=tell, engine=engine)
    for error in report.errors:
        tell(f"bad file {error}")
    _report(report, library, as_json=as_json)
    if watch:
        _watch(opened, paths, report, as_json=as_json)


def _report(report: Report, library: Any, *, as_json: bool) -> None:
    if as_json:
        emit({**vars(report), "errors": [str(error) for error in report.errors], "library": str(library)})
        return
    tell(
        f"{report.files} files: {report.unchanged} unchanged, {report.reused} known content, "
        f"{report.embedded} parts embedded, {report.removed} removed, {len(report.errors)} bad; in {library}"
    )
    if report.memory_bytes:
        tell(f"memories of {report.memory_bytes // report.embedded:,} bytes a part kept")


def _watch(library: Library, paths: list[str], first: Report, *, as_json: bool) -> None:
    """Follow the paths; Ctrl-C is the way to end it, and no failure."""
    from btoks.library.watching import Watch, watch

    told = Watch(
        lambda report: _report(report, library.path, as_json=as_json),
        lambda error: tell(str(error)),
        known={str(error) for error in first.errors},
    )
    tell("watching; Ctrl-C ends it")
    try:
        watch(library, paths, told)
    except KeyboardInterrupt:
        tell("stopped; what was done is saved")


def _opened(
    folder: Any,
    model: str | None,
    device: str | None,
    store: str | None,
    *,
    keep_memory: bool,
    quantize: str | None,
    rescore: str | None,
) -> Library:
    from btoks.library import Library

    if not (folder / "library.json").is_file():
        options: dict[str, Any] = {"quantize": quantize, "rescore": rescore}
        options |= {"keep_memory": keep_memory, "store": store or "lance"}
        return Library.create(folder, model=model or MODEL, device=device, **options)
    if quantize is not None or rescore is not None:
        raise BtoksError(str(folder), "it is there already", "change its codes with `btoks reindex`")
    opened = Library.open(folder, device=device)
    if model is not None and not opened.made_with(model):
        reason = f"it was made with {opened.stats()['model']}"
        raise BtoksError(str(folder), reason, "leave --model out, or index into another --library")
    kept_in(opened, store)
    if keep_memory and not opened.keeps_memory:
        raise BtoksError(str(folder), "it was made without memories", "leave --keep-memory out, or use a new --library")
    return opened


@contextmanager
def _progress() -> Iterator[Callable[[Report], Any]]:
    """How far a run is."""
    started = time.monotonic()

    def line(report: Report) -> str:
        seconds = max(time.monotonic() - started, 1e-9)
        rate = report.done / seconds
        left = (report.total - report.done) / rate if rate else 0
        times = f"{rate:.1f} a second, {int(left) // 60}:{int(left) % 60:02d} left"
        return f"{report.done} of {report.total} files, {times}, {len(report.errors)} bad"

    with progress("looking for files", line) as told:
        yield told
