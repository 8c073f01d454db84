"""`btoks library`: what a library holds, whether it is whole, and putting it in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from btoks.cli.screen import Json, emit, table
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.library import Library

group = typer.Typer(help="Look after a library: stats, check, compact, export, history, restore.", no_args_is_help=True)


def _default() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "btoks" / "library"


def place(given: str | Path) -> Any:
    """A library's folder, or its place on object storage."""
    if not str(given).startswith("s3://"):
        return Path(given)
    from btoks.library.objects import home

    return home(str(given))


Where = Annotated[
    Any,
    typer.Option(
        "--library",
        envvar="BTOKS_LIBRARY",
        default_factory=_default,
        show_default="~/.local/share/btoks/library",
        parser=place,
        metavar="DIR|s3://…",
        help="The library's folder, or s3://bucket/path.",
    ),
]
Kept = Annotated[
    Literal["lance", "qdrant"] | None,
    typer.Option("--store", help="What keeps the items of a library, set when it is made.", show_default="lance"),
]
LIBRARY: Any = typer.Argument(metavar="LIBRARY", parser=place, help="A folder, or s3://bucket/path.")


def kept_in(library: Library, store: str | None) -> Library:
    """The library, unless its items are in another store than the one that was named."""
    there = library.view.noted.store
    if store not in (None, there):
        raise BtoksError(str(library.path), f"its items are in {there}", "leave --store out, or take another library")
    return library


@group.command()
def stats(*, library: Where, as_json: Json = False) -> None:
    """Show what a library holds and takes. Example: btoks library stats"""
    from btoks.library import Library

    _show(Library.open(library).stats(), as_json=as_json)


@group.command()
def check(*, library: Where, as_json: Json = False) -> None:
    """Check that files and items agree and that searches find the nearest. Example: btoks library check

    `missing` are contents of files without items, `orphans` items without a file, `recall` is the share of the exact
    10 nearest that a search finds. The exit status is 1 if something is missing or recall is below 0.95.
    """
    from btoks.library import Library

    facts = Library.open(library).check()
    _show(facts, as_json=as_json)
    if facts["missing"] or facts["orphans"] or (facts["recall"] is not None and facts["recall"] < 0.95):
        raise typer.Exit(1)


@group.command()
def compact(*, library: Where, as_json: Json = False) -> None:
    """Remove from disk what was deleted, and what killed runs have left. Example: btoks library compact"""
    from btoks.library import Library

    opened = Library.open(library)
    before = opened.stats()["bytes"]
    opened.compact()
    _show({"bytes_before": before, "bytes": opened.stats()["bytes"]}, as_json=as_json)


@group.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A folder, or a file .parquet or .jsonl.")],
    *,
    library: Where,
    as_json: Json = False,
) -> None:
    """Write all items with their vectors for other programs. Example: btoks library export items.parquet"""
    from btoks.library import Library

    for path in Library.open(library).export(target):
        if as_json:
            emit({"path": str(path), "bytes": path.stat().st_size})
        else:
            typer.echo(str(path))


@group.command()
def history(*, library: Where, as_json: Json = False) -> None:
    """Show what the library was after each write. Example: btoks library history

    A version can be restored until a compaction, or the merging of small files an hour later, removes its data.
    """
    from btoks.library import Library

    known = Library.open(library).history()
    if as_json:
        for each in known:
            emit(each.json())
        return
    rows = [0, *(each.rows for each in known)]
    files = [0, *(each.files for each in known)]
    table(
        ("version", "time", "what", "items", "files", "can be restored"),
        (
            (
                each.version,
                each.time,
                each.did,
                f"{each.rows:,} ({each.rows - rows[place]:+,})",
                f"{each.files:,} ({each.files - files[place]:+,})",
                _cell(each.restorable),
            )
            for place, each in enumerate(known)
        ),
    )


@group.command()
def restore(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="One that `btoks library history` shows.")],
    *,
    library: Where,
    as_json: Json = False,
) -> None:
    """Make an earlier version current again. Example: btoks library restore 3

    Items and files go back together; the next `btoks index` brings what has changed since on disk in again.
    """
    from btoks.library import Library

    opened = Library.open(library)
    opened.restore(version)
    last = opened.history()[-1]
    _show({"version": last.version, "what": last.did, "items": last.rows, "files": last.files}, as_json=as_json)


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(facts)
    else:
        table(("", ""), ((key.replace("_", " "), _cell(value)) for key, value in facts.items()))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int | float) else str(value)
