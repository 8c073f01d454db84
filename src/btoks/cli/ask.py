"""`btoks ask`: a question answered from what a library holds, with its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.library import Where
from btoks.cli.screen import MODEL, Device, Json, emit, quiet
from btoks.cli.search import Filter, MinScore

if TYPE_CHECKING:
    from btoks.library.answering import Answer

_DEMONSTRATION = f"{MODEL} is a small demonstration: how it answers shows how the parts work, not what a model can know"


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    library: Where,
    from_memory: Annotated[bool, typer.Option("--from-memory", help="Answer from stored memories alone.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="The most sources.")] = 3,
    where: Filter = None,
    min_score: MinScore = None,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Look for sources by full text as well.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A generative model: a folder or a hub id.", show_default="the library's")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to answer with at most.")] = 128,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Ask a library, and see where the answer is from. Example: btoks ask "how long do the eggs cook?"

    The answer comes from the originals of the best hits; with --from-memory from the keys and values of their
    bottleneck tokens alone, which `btoks index --keep-memory` stores, so that no original has to be there.
    """
    quiet(ctx)
    from btoks.library import Library

    opened = Library.open(library, device=device)
    if model == MODEL or (model is None and opened.made_with(MODEL)):
        typer.echo(_DEMONSTRATION, err=True)
    chosen: dict[str, Any] = {
        "where": where,
        "min_score": min_score,
        "hybrid": hybrid,
        "model": model,
        "max_new_tokens": max_new_tokens,
    }
    _show(opened.ask(question, k, from_memory, **chosen), as_json=as_json)


def _show(found: Answer, *, as_json: bool) -> None:
    from btoks.library.answering import place

    for error in found.unread:
        typer.echo(f"not read: {error}", err=True)
    if as_json:
        emit(found.json())
    elif not found.sources:
        typer.echo("nothing here matches (--min-score 0 asks the nearest)", err=True)
    else:
        typer.echo(found.text)
        for number, hit in enumerate(found.sources, 1):
            typer.echo(f"[{number}] {place(hit)}")
