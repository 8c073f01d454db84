"""What the endpoints share: the libraries, their models, uploads, numbers; and whether all of it is warm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request

from btoks.server.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from btoks.library.view import View
    from btoks.server.engine import Engine
    from btoks.server.metrics import Metrics
    from btoks.server.opening import Opener
    from btoks.server.shelf import Shelf
    from btoks.server.uploads import Uploads

    _T = TypeVar("_T")

_LOG = logging.getLogger("btoks.server")
_LOOK, _SHARE = 2.0, 10
"""Seconds between two looks for changes, and how many times longer than it takes at least."""


@dataclass(frozen=True)
class Settings:
    """How an application serves."""

    token: str | None = None
    """What every request has to bring, but for the page and the health."""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")
    """Without a token, the names under which it answers: a page elsewhere could give its own name our address."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may ask."""
    max_wait: float = 0.004
    """Seconds that an input waits for others."""
    max_tokens: int = 16_384
    """Tokens of a batch, padding included."""
    max_queue: int = 256
    """Inputs that may be inside before requests are refused."""
    max_upload: int = 64 << 20
    """Bytes of a file that is sent."""


@dataclass
class State:
    """All that one application holds."""

    settings: Settings
    shelves: dict[str, Shelf]
    engines: list[Engine]
    make: Callable[[str, Any], Engine]
    """An engine for a model that a library has been given since."""
    opener: Opener
    uploads: Uploads
    metrics: Metrics
    ready: bool = False
    _keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin to batch, and to warm up."""
        for engine in self.engines:
            engine.start()
        self._keeper = asyncio.create_task(self._keep_warm())

    async def close(self) -> None:
        """End everything that was started."""
        self.ready = False
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for engine in self.engines:
            await engine.batcher.close()
        await asyncio.to_thread(self.opener.close)

    def shelf(self, name: str | None) -> Shelf:
        """A library by its name, the first without one."""
        if name is None and self.shelves:
            return next(iter(self.shelves.values()))
        if name not in self.shelves:
            raise ProblemError(404, "there is no such library" if self.shelves else "no library is served")
        return self.shelves[name]

    def engine(self, name: str) -> Engine:
        """A model by its name, the first for any other."""
        if not self.engines:
            raise ProblemError(404, "no model is served")
        return next((engine for engine in self.engines if engine.name == name), self.engines[0])

    async def engine_of(self, shelf: Shelf, view: View) -> Engine:
        """The model of a view of a library; after a reindex that may be another than before."""
        if view.noted.model is None:
            raise ProblemError(400, "the library has no model to search with")
        model = (await asyncio.to_thread(view.asker)).model
        known = next((engine for engine in self.engines if engine.model is model), None)
        if known is None:
            known = self.make(view.noted.model, model)
            known.start()
            self.engines.append(known)
        return known

    async def _keep_warm(self) -> None:
        """Warm up, and again whenever another process has changed a library: no search has to wait for it."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await asyncio.to_thread(self.opener.warm)
                for engine in self.engines if not self.ready else []:
                    await engine.embed(["warm"], "query")
                for shelf in self.shelves.values():
                    await self._warm(shelf)
                self._now_ready()
            except Exception:
                _LOG.exception("warming up")
            await asyncio.sleep(max(_LOOK, _SHARE * (loop.time() - started)))

    def _now_ready(self) -> None:
        if not self.ready:
            self.ready = True
            _LOG.info("ready")

    async def _warm(self, shelf: Shelf) -> None:
        """Have a library's model and index in memory; a model that no library has any more is let go."""
        view, before = shelf.library.view, len(self.engines)
        if view.noted.model is not None:
            engine = await self.engine_of(shelf, view)
            if len(self.engines) > before:
                await engine.embed(["warm"], "query")
        await asyncio.to_thread(shelf.warm)
        used = [each.library.view.noted.model for each in self.shelves.values()]
        for engine in [each for each in self.engines if each.of and each.of not in used]:
            if not engine.batcher.inside:
                self.engines.remove(engine)
                await engine.batcher.close()


def state(request: Request) -> State:
    """What the endpoints share, as a dependency."""
    found: State = request.app.state.shared
    return found


def warm(request: Request) -> State:
    """The same, once it is ready."""
    found = state(request)
    if not found.ready:
        raise ProblemError(503, "the server is starting", {"Retry-After": "1"})
    return found


async def unless_gone(request: Request, at: State, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of some work, which is cancelled as soon as the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.cancelled():
            raise ProblemError(503, "the server is ending", {"Retry-After": "5"})
        if task.done():
            return task.result()
        at.metrics.cancelled.inc()
        raise ProblemError(499, "the client has gone")
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
