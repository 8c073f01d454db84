"""`/v1/search` and `/v1/embeddings`: everything that runs the model."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request

from btoks.errors import BtoksError
from btoks.library.asking import Asked
from btoks.server.problems import ProblemError, responses
from btoks.server.schemas import Answer, Ask, Embed, Given, Hit, Hits, Name, Search, Usage, Vector, Vectors
from btoks.server.shelf import found, shown_hit
from btoks.server.state import State, unless_gone, warm

if TYPE_CHECKING:
    from btoks.library.ranking import Hit as Found
    from btoks.library.view import View
    from btoks.server.engine import Embedded
    from btoks.server.shelf import Shelf

router = APIRouter()
_MEDIA = 64
"""So many pictures and clips may be in one list."""


@router.post("/v1/search", tags=["search"], responses=responses(400, 404, 413, 422, 429, 503))
async def search(
    request: Request,
    body: Search,
    at: Annotated[State, Depends(warm)],
    library: Annotated[Name | None, Query(description="The library, if the body names none.")] = None,
) -> Hits:
    """Find by a text, a picture, a video, a page, or items that were found before; the best first.

    Scores lie between 0 and 1. Without `min_score`, hits that a query about absent things would find as well are left
    out, so that no hit means that nothing matches; 0 keeps all.
    """
    shelf = at.shelf(body.library or library)
    return Hits(hits=await unless_gone(request, at, _found(at, shelf, body)))


async def _found(at: State, shelf: Shelf, body: Search) -> list[Hit]:
    """The hits, by the library as it is when it is asked; once more if a reindex has replaced it under the question."""
    query, without = _several(body.query), _several(body.without)
    if not query and not body.like:
        raise ProblemError(400, "there is no query; give a text, a medium, or an item to be like")
    while True:
        view = shelf.library.view
        try:
            engine = await at.engine_of(shelf, view)
            asked = [_asked(each) for each in await engine.embed([*query, *without], "query")]
            return [
                Hit(**shown_hit(each))
                for each in await asyncio.to_thread(_searched, shelf, view, body, asked, len(query))
            ]
        except BtoksError:
            if shelf.library.view is view:
                raise


def _searched(shelf: Shelf, view: View, body: Search, asked: list[Asked], wanted: int) -> list[Found]:
    """What is found by the first `wanted` of some embedded queries, without what the others are like."""
    unlike = shelf.asked(_several(body.unlike))
    options = {name: getattr(body, name) for name in ("where", "min_score", "hybrid", "group", "like")}
    without = [(each, 1.0) for each in [*asked[wanted:], *unlike]]
    return found(view, [(each, 1.0) for each in asked[:wanted]], body.k, without=without, **options)


def _several(given: Any) -> list[Any]:
    return [] if given is None else given if isinstance(given, list) else [given]


def _asked(found: Embedded) -> Asked:
    return Asked(found.vector_D / np.float32(np.linalg.norm(found.vector_D)), found.words, found.kind)


@router.post("/v1/ask", tags=["search"], responses=responses(400, 404, 413, 422, 429, 503))
async def ask(request: Request, body: Ask, at: Annotated[State, Depends(warm)]) -> Answer:
    """Answer a question from the best hits with the library's own model, and name the sources."""
    shelf = at.shelf(body.library)
    engine = await at.engine_of(shelf, shelf.library.view)
    options = {name: getattr(body, name) for name in ("where", "min_score", "hybrid", "max_new_tokens")}

    async def answered() -> Answer:
        with engine.batcher.admitted(1):
            work = partial(shelf.library.ask, body.question, body.k, body.from_memory, **options)
            said = await engine.batcher.alone(work)
        sources = [Hit(**shown_hit(each)) for each in said.sources]
        return Answer(answer=said.text, from_memory=said.from_memory, sources=sources, unread=len(said.unread))

    return await unless_gone(request, at, answered())


@router.post("/v1/embeddings", tags=["embeddings"], responses=responses(400, 404, 413, 422, 429, 503))
async def embeddings(request: Request, body: Embed, at: Annotated[State, Depends(warm)]) -> Vectors:
    """Embed texts, pictures and clips, as OpenAI's API does."""
    engine = at.engine(body.model)
    given: list[Given | str] = body.input if isinstance(body.input, list) else [body.input]
    if sum(not isinstance(each, str) for each in given) > _MEDIA:
        raise ProblemError(400, f"at most {_MEDIA} inputs of a list may hold media; send several lists")
    found = await unless_gone(request, at, engine.embed(given, body.task))
    total = sum(each.tokens for each in found)
    data = [
        Vector(index=index, embedding=_written(_cut(each.vector_D, body.dimensions), body.encoding_format))
        for index, each in enumerate(found)
    ]
    return Vectors(data=data, model=engine.name, usage=Usage(prompt_tokens=total, total_tokens=total))


def _cut(vector_D: Any, dimensions: int | None) -> Any:
    """The first dimensions, with length one, for models that were trained for it."""
    if dimensions is None or dimensions == len(vector_D):
        return vector_D
    if dimensions > len(vector_D):
        raise ProblemError(400, f"the model's vectors have {len(vector_D)} dimensions")
    short_D = vector_D[:dimensions]
    return short_D / max(float(np.linalg.norm(short_D)), 1e-12)


def _written(vector_D: Any, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector_D, "<f4").tobytes()).decode()
    return [float(value) for value in vector_D]
