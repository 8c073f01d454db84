"""`btoks search`: find by a text, a picture, a clip, a page, or things found before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from btoks.cli.library import Kept, Where, kept_in
from btoks.cli.screen import Device, Json, emit, quiet, table
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.library import Hit

_WIDTH = 80
Text = Annotated[str | None, typer.Argument(help="What to look for; with a picture or clip both together.")]
Image = Annotated[str | None, typer.Option(help="Look for what is like this picture: a path or URL.")]
Video = Annotated[str | None, typer.Option(help="Look for what is like this video: a path or URL.")]
Page = Annotated[str | None, typer.Option(help="Look for what is like a page: FILE.pdf:3.")]
Like = Annotated[list[str] | None, typer.Option(help="Look for more like a hit: its id; may be repeated.")]
Not = Annotated[list[str] | None, typer.Option("--not", help="What hits should not be like; may be repeated.")]
Filter = Annotated[str | None, typer.Option("--filter", help="A condition on kind, folder, path, year, page, text …")]
MinScore = Annotated[
    float | None, typer.Option(min=0, max=1, help="Leave out hits below; 0 shows all.", show_default="calibrated")
]


def search(
    ctx: typer.Context,
    text: Text = None,
    *,
    library: Where,
    image: Image = None,
    video: Video = None,
    page: Page = None,
    like: Like = None,
    without: Not = None,
    k: Annotated[int, typer.Option("-k", min=1, help="The most hits.")] = 10,
    where: Filter = None,
    min_score: MinScore = None,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Rank by full text as well.")] = False,
    group: Annotated[Literal["file"] | None, typer.Option(help="One hit a file.")] = None,
    open_first: Annotated[bool, typer.Option("--open", help="Open the first hit.")] = False,
    store: Kept = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Search a library. Example: btoks search "a dog on the beach" --filter "kind = 'image' and year >= 2020"

    A score of 0.5 is as good as the best that a query about absent things would find, whatever the kind of the hit;
    lower ones are left out, so that no hit means that nothing matches.
    """
    quiet(ctx)
    from btoks.library import Library

    query = _query(text, image, video, page)
    opened = kept_in(Library.open(library, device=device), store)
    hits = opened.search(query, k, where, min_score, hybrid=hybrid, group=group, like=like, without=without or None)
    if as_json:
        for hit in hits:
            emit(hit.json())
    elif hits:
        table(("score", "kind", "where", "text"), map(_row, hits))
    else:
        typer.echo("nothing here matches (--min-score 0 shows the nearest)", err=True)
    if open_first and hits and hits[0].path is not None:
        typer.launch(hits[0].path)


def _query(text: str | None, image: str | None, video: str | None, page: str | None) -> Any:
    """The query as the library takes it; None where only items to be like are given."""
    from btoks.media import Source

    media = {"image": image, "video": video, "page": page}
    given = {key: value for key, value in media.items() if value is not None}
    if len(given) > 1:
        raise BtoksError("query", f"it has {' and '.join(given)}", "give one of them")
    if page is not None:
        file, _, number = page.rpartition(":")
        if not file or not number.isdigit():
            raise BtoksError(f"--page {page}", "it names no page", "write FILE.pdf:3")
        source = Source(file, page=int(number))
        return source if text is None else {"text": text, "image": source}
    if not given:
        return text
    return {**given, **({} if text is None else {"text": text})}


def _row(hit: Hit) -> tuple[str, str, str, str]:
    from btoks.library.answering import place

    line = " ".join((hit.text or "").split())
    return f"{hit.score:.2f}", hit.kind, place(hit), line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
