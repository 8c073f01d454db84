"""`/v1/libraries`: what is served, what it holds, and its map; `/healthz` and `/metrics`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import PlainTextResponse

from btoks.server.problems import responses
from btoks.server.schemas import Facets, Health, Libraries, LibraryFacts, Map, Stats
from btoks.server.state import State, state

router = APIRouter()
Named = Annotated[str, Path(min_length=1, max_length=1_000, description="A library's name.")]
Shared = Annotated[State, Depends(state)]


@router.get("/v1/libraries", tags=["libraries"])
def libraries(at: Shared) -> Libraries:
    """The libraries that are served, the default one first."""
    return Libraries(
        libraries=[
            LibraryFacts(name=shelf.name, model=shelf.model, items=shelf.store.count()) for shelf in at.shelves.values()
        ]
    )


@router.get("/v1/libraries/{name}/stats", tags=["libraries"], responses=responses(404, 422))
def stats(name: Named, at: Shared) -> Stats:
    """What a library holds, and what it takes on disk."""
    return Stats(**at.shelf(name).stats())


@router.get("/v1/libraries/{name}/facets", tags=["libraries"], responses=responses(404, 422))
def facets(name: Named, at: Shared) -> Facets:
    """How many items there are of each kind, in each folder, of each year: what filters can choose from."""
    return Facets(**at.shelf(name).facets())


@router.get("/v1/libraries/{name}/map", tags=["libraries"], responses=responses(404, 422))
def projection(name: Named, at: Shared) -> Map:
    """Items by the two directions in which their embeddings differ most; of very many a sample."""
    return Map(**at.shelf(name).map())


@router.get("/healthz", tags=["operation"], responses={503: {"model": Health, "description": "Warming up"}})
async def health(response: Response, at: Shared) -> Health:
    """Ready as soon as models and indexes are warm: the first search is as quick as the second."""
    if not at.ready:
        response.status_code = 503
        return Health(status="starting")
    return Health(status="ready")


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
async def metrics(at: Shared) -> Response:
    """Numbers for Prometheus."""
    text = at.metrics.text(lambda: sum(engine.batcher.inside for engine in at.engines), ready=at.ready)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
