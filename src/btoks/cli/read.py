"""`btoks read`: text generated from the memory of an item alone."""

from pathlib import Path
from typing import Annotated

import typer

from btoks.cli.screen import MODEL, Device, Json, Model, emit, opened
from btoks.errors import BtoksError


def read(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A text, picture, video or PDF.")] = None,
    *,
    text: Annotated[str | None, typer.Option(help="A text in place of a file.")] = None,
    page: Annotated[int | None, typer.Option(min=1, help="The page of a PDF.")] = None,
    prompt: Annotated[str, typer.Option(help="What to ask of the memory.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to read at most.")] = 128,
    model: Model = MODEL,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Read back what a memory holds. Example: btoks read photo.jpg --prompt "What is this?"

    The item passes through the bottleneck tokens first; the text comes from their keys and values alone.
    """
    if (file is None) == (text is None):
        raise BtoksError("input", "give a file or --text, and not both", "see `btoks read --help`")
    if page is not None and file is None:
        raise BtoksError("--page", "a text has no pages", "leave it out")
    found = opened(ctx, model, device)
    from btoks import condensation
    from btoks.inputs import fit
    from btoks.media import Source, load

    item = fit(found, {"text": text} if file is None else load(Source(file, page=page)))
    held = condensation.memory(found, found.preprocess([item]))[1]
    said = condensation.read(found, held, prompt, max_new_tokens=max_new_tokens)[0]
    if as_json:
        emit({"path": None if file is None else str(file), "page": page, "text": said})
    else:
        typer.echo(said)
