"""Requests that come at once are embedded as one batch: a bounded queue, a short wait for company, a budget of tokens.

    submit ──▶ waiting ──(max_wait, max_tokens)──▶ one batch in the model's thread ──▶ each request its own result
What is cancelled while it waits is never computed; what comes while a batch runs makes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Run = Callable[[Sequence[Any], str | None], Sequence[Any]]


class FullError(Exception):
    """As many inputs wait as may; ask again later."""


@dataclass(frozen=True)
class _Job:
    """One input that waits, since when, and how many tokens it will take."""

    item: Any
    task: str | None
    tokens: int
    since: float
    result: asyncio.Future[Any]


class Batcher:
    """Runs `run(items, task)` on batches of what was submitted; exceptions among its results are raised for their item.

    `observe(size)` is told of every batch. At most `max_queue` inputs are inside at a time, those under way included.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_wait: float = 0.004,
        max_tokens: int = 16_384,
        max_queue: int = 256,
        observe: Callable[[int], Any] = lambda _: None,
    ) -> None:
        self._run, self._observe = run, observe
        self._max_wait, self._max_tokens, self._max_queue = max_wait, max_tokens, max_queue
        self._waiting: deque[_Job] = deque()
        self._inside = 0
        self._arrived, self._turn = asyncio.Event(), asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.Task[None] | None = None

    @property
    def inside(self) -> int:
        """The inputs that have been let in and are not finished."""
        return self._inside

    def start(self) -> None:
        """Begin to serve, in the running event loop."""
        self._arrived, self._turn = asyncio.Event(), asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="serve-model")
        self._loop = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """End: what waits is cancelled, and who waits for the batch under way as well."""
        if self._loop is None or self._thread is None:
            return
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        for job in self._waiting:
            job.result.cancel()
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)
        self._loop = self._thread = None

    @contextlib.contextmanager
    def admitted(self, count: int) -> Iterator[None]:
        """Let a request with some inputs in, or refuse it; one alone is let in however many it has."""
        if self._inside and self._inside + count > self._max_queue:
            raise FullError
        self._inside += count
        try:
            yield
        finally:
            self._inside -= count

    async def submit(self, item: Any, task: str | None = None, tokens: int = 1) -> Any:
        """The result for one input, computed together with others that have the same task."""
        if self._loop is None:
            raise BtoksError("the model", "it has been replaced", "ask again")
        loop = asyncio.get_running_loop()
        job = _Job(item, task, tokens, loop.time(), loop.create_future())
        self._waiting.append(job)
        self._arrived.set()
        return await job.result

    async def alone(self, work: Callable[[], Any]) -> Any:
        """The result of something else that needs the model, done between two batches."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _serve(self) -> None:
        while True:
            await self._company()
            # What is cancelled until the model is free costs nothing, and what arrives until then comes along.
            async with self._turn:
                batch = self._taken()
                if batch:
                    await self._compute(batch)

    async def _company(self) -> None:
        """Wait for a first input, and then a little for more."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        until = self._waiting[0].since + self._max_wait
        while sum(job.tokens for job in self._waiting) < self._max_tokens:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _taken(self) -> list[_Job]:
        """The first that waits and those of its task that fit the budget; cancelled ones are dropped."""
        batch: list[_Job] = []
        rest: deque[_Job] = deque()
        longest = 0
        for job in self._waiting:
            if job.result.done():
                continue
            longer = max(longest, job.tokens)
            fits = not batch or (job.task == batch[0].task and (len(batch) + 1) * longer <= self._max_tokens)
            if fits:
                batch.append(job)
                longest = longer
            else:
                rest.append(job)
        self._waiting = rest
        return batch

    async def _compute(self, batch: list[_Job]) -> None:
        self._observe(len(batch))
        items, task = [job.item for job in batch], batch[0].task
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items, task)
        except asyncio.CancelledError:
            for job in batch:
                job.result.cancel()
            raise
        except Exception as error:
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            if job.result.done():
                continue
            if isinstance(result, Exception):
                job.result.set_exception(result)
            else:
                job.result.set_result(result)
