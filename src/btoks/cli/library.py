"""`btoks library`: what a library holds, whether it is whole, and putting it in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from btoks.cli.screen import Json, emit, table

group = typer.Typer(help="Look after a library: stats, check, compact.", no_args_is_help=True)


def _default() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "btoks" / "library"


Where = Annotated[
    Path,
    typer.Option(
        "--library",
        envvar="BTOKS_LIBRARY",
        default_factory=_default,
        show_default="~/.local/share/btoks/library",
        help="The library's folder.",
    ),
]


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
