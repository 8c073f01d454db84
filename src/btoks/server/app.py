"""The application: libraries and their models behind the endpoints, the page at `/`."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

import btoks
from btoks.server import catalogue, items, problems, search, uploads
from btoks.server.described import page
from btoks.server.engine import Engine
from btoks.server.guard import Guard
from btoks.server.metrics import Metrics
from btoks.server.opening import Opener
from btoks.server.shelf import Shelf, named
from btoks.server.state import Settings, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sentence_transformers import SentenceTransformer

    from btoks.library import Library

_PAGE = Path(__file__).parent / "page"
_ABOUT = """Find things across text, images, videos and document pages.

Every error has the form `{"error": {"message": …}}`. A library is chosen by its name; the first one is the default."""


def create(
    libraries: Mapping[str, Library],
    *,
    models: Mapping[str, SentenceTransformer] | None = None,
    settings: Settings | None = None,
    uploads_folder: Path | None = None,
) -> FastAPI:
    """An application that serves libraries by their names, and models of their own for embeddings.

    Libraries are only read; another process may write to them. Workers that share `uploads_folder` share uploads.

    >>> create({})  # doctest: +ELLIPSIS
    <fastapi.applications.FastAPI object at ...>
    """
    settings = settings or Settings()
    shared = _state(libraries, models or {}, settings, uploads_folder)
    app = FastAPI(
        title="btoks",
        version=btoks.__version__,
        description=_ABOUT,
        lifespan=partial(_alive, shared, uploads_folder),
        docs_url=None,
        redoc_url=None,
        responses=problems.responses(401, 403) if settings.token else problems.responses(403),
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.token else [],
    )
    app.state.shared = shared
    for part in (search, items, catalogue, uploads):
        app.include_router(part.router)
    _page(app)
    hidden = {str(library.path): name for name, library in libraries.items()}
    problems.install(app, {**hidden, **{engine.of: engine.name for engine in shared.engines if engine.of}})
    app.add_middleware(Guard, settings=settings, metrics=shared.metrics)
    if settings.cors:
        headers = ["Authorization", "Content-Type", "Range"]
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "POST"], allow_headers=headers
        )
    return app


@asynccontextmanager
async def _alive(shared: State, uploads_folder: Path | None, _: FastAPI) -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory(prefix="btoks-uploads-") as own:
        shared.uploads.folder = uploads_folder or Path(own)
        shared.start()
        try:
            yield
        finally:
            await shared.close()


def _state(
    libraries: Mapping[str, Library],
    models: Mapping[str, SentenceTransformer],
    settings: Settings,
    folder: Path | None,
) -> State:
    metrics = Metrics()
    kept = uploads.Uploads(folder or Path(), settings.max_upload)
    opener = Opener(kept)

    def make(of: str, model: Any) -> Engine:
        return Engine(named(of), model, opener, settings, metrics, of)

    engines = {id(model): Engine(name, model, opener, settings, metrics) for name, model in models.items()}
    for library in libraries.values():
        of = library.view.noted.model
        if of is not None and id(library.model) not in engines:
            engines[id(library.model)] = make(of, library.model)
    shelves = {name: Shelf(name, library) for name, library in libraries.items()}
    return State(settings, shelves, list(engines.values()), make, opener, kept, metrics)


def _page(app: FastAPI) -> None:
    """The page at `/` with its files, and the description of the endpoints."""

    @app.get("/docs", include_in_schema=False)
    def described() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))

    if not (_PAGE / "index.html").is_file():
        return

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=_PAGE), name="page")
