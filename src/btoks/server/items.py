"""`/v1/items`: what is known of an item, its thumbnail, its page as a picture, and its file."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from btoks.media import MediaError
from btoks.server import files
from btoks.server.problems import ProblemError, responses
from btoks.server.schemas import Item, Name
from btoks.server.shelf import seen
from btoks.server.state import State, state

if TYPE_CHECKING:
    from btoks.library.schema import Row
    from btoks.server.shelf import Shelf

router = APIRouter(tags=["items"])
_DOCUMENT = 256 << 20
_KEEP = {"Cache-Control": "private, max-age=86400"}
Id = Annotated[str, Path(min_length=1, max_length=1_000, description="An item's id, as a hit names it.")]
In = Annotated[Name | None, Query(alias="library", description="The library; the first one if left out.")]
Shared = Annotated[State, Depends(state)]


def _binary(*types: str) -> dict[str, Any]:
    return {"content": {each: {"schema": {"type": "string", "format": "binary"}} for each in types}}


@router.get(
    "/v1/items/{item:path}/thumbnail",
    response_class=Response,
    responses={200: _binary("image/jpeg"), **responses(400, 404, 422)},
)
def thumbnail(item: Id, at: Shared, name: In = None) -> Response:
    """A small picture of an item; a text has none."""
    data = at.shelf(name).library.thumbnail(item)
    if data is None:
        raise ProblemError(404, "there is no picture of it")
    return Response(data, media_type="image/jpeg", headers=_KEEP)


@router.get(
    "/v1/items/{item:path}/page",
    response_class=Response,
    responses={200: _binary("image/jpeg"), **responses(400, 403, 404, 413, 422)},
)
async def page(
    item: Id,
    at: Shared,
    name: In = None,
    number: Annotated[int | None, Query(alias="page", ge=1, le=100_000, description="Another page.")] = None,
) -> Response:
    """The page of a PDF as a picture: the item's own, or another of the same file."""
    loop, shelf = asyncio.get_running_loop(), at.shelf(name)
    data = await loop.run_in_executor(at.opener.thread, _rendered, shelf, item, number, at)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"})


def _rendered(shelf: Shelf, item: str, number: int | None, at: State) -> bytes:
    row = shelf.row(item)
    if row["kind"] != "pdf":
        raise ProblemError(404, "the item is no page")
    found = files.original(shelf, row)
    with found.file:
        if found.size > _DOCUMENT:
            raise ProblemError(413, "the document is too large to be shown")
        data = found.file.read()
    try:
        picture = at.opener.page(data, number or row["page"] or 1)
    except MediaError as error:
        raise ProblemError(404, f"the page cannot be shown: {error.reason}") from error
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()


@router.get(
    "/v1/items/{item:path}/file",
    response_class=Response,
    responses={
        200: _binary("*/*"),
        206: {"description": "A range", **_binary("*/*")},
        304: {"description": "Not changed"},
        **responses(400, 403, 404, 416, 422),
    },
)
def file(request: Request, item: Id, at: Shared, name: In = None) -> Response:
    """The original file; `Range: bytes=…` for a part of it, as players of videos ask for."""
    shelf = at.shelf(name)
    return files.answer(files.original(shelf, shelf.row(item)), request.headers)


@router.get("/v1/items/{item:path}", responses=responses(400, 404, 422))
def facts(item: Id, at: Shared, name: In = None) -> Item:
    """What is known of an item, with its whole text."""
    shelf = at.shelf(name)
    row = shelf.row(item)
    own: dict[str, Any] = {key: row[key] for key in ("id", "kind", "page", "start", "end", "text", "year")}
    paths = [path for path in map(seen, row["paths"] or []) if path is not None]
    more: dict[str, Any] = {
        "path": seen(row["path"]),
        "folder": seen(row["folder"]),
        "paths": paths,
        "pages": shelf.pages(row),
    }
    return Item(**own, **more, metadata=_metadata(shelf, row))


def _metadata(shelf: Shelf, row: Row) -> dict[str, Any]:
    return {name: row[name] for name in shelf.store.types() if row.get(name) is not None}
