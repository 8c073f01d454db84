"""Batches: together what comes together, nothing for what is cancelled, a clear no when too much waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from btoks.library import Library
from btoks.server import Settings, create
from btoks.server.batching import Batcher, FullError
from server.conftest import Live, serving, until

if TYPE_CHECKING:
    from pathlib import Path

    from btoks.server.engine import Engine


class Recorder:
    """Doubles numbers, remembers its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Any], str | None]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[Any], task: str | None) -> list[Any]:
        self.batches.append((list(items), task))
        assert self.free.wait(30)
        return [ValueError(f"bad {item}") if item == 13 else 2 * item for item in items]


def served(use: Callable[[Batcher, Recorder], Awaitable[Any]], **options: Any) -> Recorder:
    """Run something with a batcher."""
    recorder = Recorder()

    async def go() -> None:
        batcher = Batcher(recorder, **{"max_wait": 0.02, **options})
        batcher.start()
        try:
            await use(batcher, recorder)
        finally:
            recorder.free.set()
            await batcher.close()

    asyncio.run(go())
    return recorder


def test_what_comes_together_is_computed_together() -> None:
    async def use(batcher: Batcher, _: Recorder) -> None:
        assert await asyncio.gather(*(batcher.submit(number) for number in range(5))) == [0, 2, 4, 6, 8]
        assert await batcher.submit(7) == 14

    assert served(use).batches == [([0, 1, 2, 3, 4], None), ([7], None)]


def test_batches_keep_their_budget_and_their_task() -> None:
    async def use(batcher: Batcher, _: Recorder) -> None:
        tokens, tasks = [3, 3, 4, 2, 20, 1], ["a", "a", "a", "b", "a", "b"]
        jobs = [batcher.submit(at, task, size) for at, (task, size) in enumerate(zip(tasks, tokens, strict=True))]
        assert await asyncio.gather(*jobs) == [0, 2, 4, 6, 8, 10]

    batches = served(use, max_tokens=8).batches
    # Three of up to 4 tokens would be 12, padded; what is longer than the budget goes alone.
    assert batches == [([0, 1], "a"), ([2], "a"), ([3, 5], "b"), ([4], "a")]


def test_one_that_is_bad_does_not_spoil_the_others() -> None:
    async def use(batcher: Batcher, _: Recorder) -> None:
        found = await asyncio.gather(*(batcher.submit(number) for number in (1, 13, 2)), return_exceptions=True)
        assert found[::2] == [2, 4]
        assert str(found[1]) == "bad 13"
        with pytest.raises(TypeError):
            await batcher.submit(None)
        assert await batcher.submit(3) == 6

    served(use)


def test_what_is_cancelled_is_not_computed() -> None:
    async def use(batcher: Batcher, recorder: Recorder) -> None:
        recorder.free.clear()
        first = asyncio.create_task(batcher.submit(1))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(batcher.submit(number)) for number in (2, 3, 4)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        waiting[2].cancel()
        recorder.free.set()
        assert await first == 2
        assert await waiting[1] == 6

    assert served(use).batches == [([1], None), ([3], None)]


def test_only_so_many_are_let_in() -> None:
    async def use(batcher: Batcher, _: Recorder) -> None:
        with batcher.admitted(7), pytest.raises(FullError):  # one request alone may be larger than the queue
            batcher.admitted(1).__enter__()
        with batcher.admitted(2), batcher.admitted(2), pytest.raises(FullError):
            batcher.admitted(1).__enter__()
        assert batcher.inside == 0
        with pytest.raises(ZeroDivisionError), batcher.admitted(4):
            raise ZeroDivisionError
        assert batcher.inside == 0

    served(use, max_queue=4)


def test_the_end_cancels_what_waits() -> None:
    async def use(batcher: Batcher, recorder: Recorder) -> None:
        recorder.free.clear()
        jobs = [asyncio.create_task(batcher.submit(1))]
        while not recorder.batches:
            await asyncio.sleep(0.001)
        jobs.append(asyncio.create_task(batcher.submit(2)))
        await asyncio.sleep(0)
        threading.Timer(0.05, recorder.free.set).start()
        await batcher.close()
        await asyncio.wait(jobs, timeout=0.1)
        assert jobs[1].cancelled()

    assert len(served(use).batches) == 1


@contextmanager
def busy(engine: Engine) -> Iterator[None]:
    """Keep the model's thread from its batches."""
    held, free = threading.Event(), threading.Event()
    batcher = engine.batcher
    assert batcher._loop is not None

    def hold() -> None:
        held.set()
        free.wait(60)

    asyncio.run_coroutine_threadsafe(batcher.alone(hold), batcher._loop.get_loop())
    assert held.wait(30)
    try:
        yield
    finally:
        free.set()


@pytest.fixture
def small(folder: Path) -> Iterator[Live]:
    """A server with room for three inputs."""
    with serving(create({"mine": Library.open(folder)}, settings=Settings(max_queue=3))) as live:
        yield live


def inside(live: Live) -> int:
    return live.state.engines[0].batcher.inside


def metric(live: Live, name: str) -> float:
    lines = live.http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_full_queue_answers_429_and_a_free_one_again(small: Live) -> None:
    found: list[httpx.Response] = []

    def ask(number: int) -> None:
        found.append(httpx.post(f"{small.url}v1/search", json={"query": f"fox {number}", "min_score": 0}, timeout=60))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    with busy(small.state.engines[0]):
        for thread in threads:
            thread.start()
        until(lambda: inside(small) == 3)
        refused = small.http.post("/v1/search", json={"query": "one too many"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert small.http.post("/v1/embeddings", json={"input": ["a", "b"]}).status_code == 429
        # What needs no model is answered all the while.
        assert small.http.get("/v1/libraries").status_code == 200
        assert small.http.get("/healthz").status_code == 200
        assert metric(small, "btoks_inputs_waiting") == 3
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in found] == [200] * 3
    assert small.hits(query="fox", min_score=0)
    assert metric(small, 'btoks_requests_total{method="POST",route="/v1/search",status="429"}') == 1


def test_a_client_that_goes_away_costs_nothing(small: Live) -> None:
    before = metric(small, "btoks_batch_inputs_sum")
    with busy(small.state.engines[0]):
        for path, body in (("search", {"query": "fox"}), ("embeddings", {"input": ["a", "b", "c"]})):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{small.url}v1/{path}", json=body, timeout=0.5)
            until(lambda: inside(small) == 0)
    assert small.hits(query="wolf", min_score=0)
    assert metric(small, "btoks_batch_inputs_sum") == before + 1
    assert metric(small, "btoks_cancelled_total") == 2


def test_a_long_list_leaves_room_for_others(live: Live) -> None:
    texts = [f"text {number}" for number in range(70)]
    found: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: found.append(httpx.post(f"{live.url}v1/embeddings", json={"input": texts}, timeout=60))
    )
    with busy(live.state.engines[0]):
        thread.start()
        until(lambda: inside(live) == 70)
        assert len(live.state.engines[0].batcher._waiting) <= 32
    thread.join(60)
    alone = live.http.post("/v1/embeddings", json={"input": texts[66]}).json()["data"][0]["embedding"]
    assert found[0].json()["data"][66]["embedding"] == pytest.approx(alone, abs=1e-5)
