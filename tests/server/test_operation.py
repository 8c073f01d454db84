"""The server as a process: ready only when warm, quick after changes, a clean end, several workers, metrics."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from btoks.library import Library
from btoks.server import create
from library.stored import write
from server.conftest import Live, serving, until
from server.test_batching import busy, inside, metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def own_threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("serve-")}


def test_ready_only_when_it_is_warm(folder: Path) -> None:
    before = own_threads()
    app = create({"mine": Library.open(folder)})
    shelf = app.state.shared.shelves["mine"]
    started, free, warm = threading.Event(), threading.Event(), shelf.warm

    def held() -> None:
        started.set()
        assert free.wait(60)
        warm()

    shelf.warm = held
    with serving(app, wait=False) as live:
        assert started.wait(60)
        answer = live.http.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
        assert live.http.post("/v1/search", json={"query": "fox"}).status_code == 503
        assert live.http.get("/v1/libraries").status_code == 200
        free.set()
        until(lambda: live.http.get("/healthz").json() == {"status": "ready"})
        assert shelf._warm is not None
        assert live.hits(query="fox", min_score=0)
    assert own_threads() <= before
    assert live.state.opener._decoder.pid is None


def test_what_is_written_meanwhile_is_found_and_warm(folder: Path, model: Path, tmp_path: Path) -> None:
    note = write(tmp_path, "files/a.txt", "a note about a wolf")
    made = Library.create(tmp_path / "library", model=model)
    made.add(note.parent)
    with serving(create({"mine": Library.open(made.path)})) as live:
        assert len(live.hits(query="wolf", min_score=0)) == 1
        first = live.http.get("/v1/libraries/mine/map").json()
        again = live.http.get("/v1/libraries/mine/map").json()
        assert again == first
        write(tmp_path, "files/b.txt", "a note about an owl")
        write(tmp_path, "files/c.txt", "a note about a crow")
        made.add(note.parent)
        assert len(live.hits(query="wolf", min_score=0)) == 3
        shelf = live.state.shelves["mine"]
        until(lambda: shelf._warm == (shelf.library.view, shelf.store.version))
        changed = live.http.get("/v1/libraries/mine/map").json()
        assert (len(first["items"]), len(changed["items"])) == (1, 3)
        assert changed["version"] != first["version"]
        assert live.http.get("/v1/libraries/mine/stats").json()["files"] == 3
        facets = live.http.get("/v1/libraries/mine/facets").json()
        year = str(time.localtime().tm_year)
        assert facets == {"kinds": {"text": 3}, "folders": {"": 3}, "years": {year: 3}}


def test_the_map_holds_every_item_within_its_bounds(live: Live) -> None:
    items = live.http.get("/v1/libraries/mine/map").json()["items"]
    hits = {hit["id"]: hit for hit in live.hits(query="fox", k=1000, min_score=0)}
    assert {each["id"] for each in items} == set(hits)
    for each in items:
        assert (each["kind"], each["path"]) == (hits[each["id"]]["kind"], hits[each["id"]]["path"])
        assert max(abs(each["x"]), abs(each["y"])) <= 1
    assert max(max(abs(each["x"]), abs(each["y"])) for each in items) == pytest.approx(1)
    assert len({(each["x"], each["y"]) for each in items}) > len(items) // 2


def test_requests_under_way_are_finished_at_the_end(folder: Path) -> None:
    answers: list[httpx.Response] = []
    with serving(create({"mine": Library.open(folder)})) as live:

        def ask(number: int) -> None:
            body = {"query": f"fox {number}", "min_score": 0}
            answers.append(httpx.post(f"{live.url}v1/search", json=body, timeout=60))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        with busy(live.state.engines[0]):
            for thread in threads:
                thread.start()
            until(lambda: inside(live) == 3)
            live.server.should_exit = True
            time.sleep(0.3)
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"{live.url}healthz", timeout=5)
            assert not answers
        for thread in threads:
            thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert all(answer.json()["hits"] for answer in answers)


def test_numbers_for_prometheus(live: Live) -> None:
    count = 'btoks_requests_total{method="GET",route="/v1/items/{item:path}",status="404"}'
    before = metric(live, count)
    live.http.get("/v1/items/nothing")
    live.http.get("/v1/items/neither")
    assert metric(live, count) == before + 2
    answer = live.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for name in ("btoks_request_seconds_bucket", "btoks_batch_inputs_count", "btoks_inputs_waiting", "btoks_ready"):
        assert name in answer.text
    assert "nothing" not in answer.text


@contextlib.contextmanager
def command(*argv: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`btoks serve` as a process of its own, and its address; it is killed in the end, whatever happened."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "btoks", "serve", *map(str, argv), "--port", str(port), "--device", "cpu"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _ready(process, url), 110)
        yield process, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _ready(process: subprocess.Popen[str], url: str) -> bool:
    assert process.poll() is None, process.communicate()[0]
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    return False


@pytest.mark.timeout(240)
def test_two_workers_share_a_library_and_uploads_and_end_on_a_signal(folder: Path, files: Path) -> None:
    with command(folder, "--workers", 2, BTOKS_TOKEN="key") as (process, url):
        headers = {"Authorization": "Bearer key", "Connection": "close"}

        def post(path: str, **options: Any) -> httpx.Response:
            return httpx.post(f"{url}{path}", headers=headers, timeout=60, **options)

        sent = post("/v1/uploads", content=(files / "japan.png").read_bytes()).json()["id"]
        body = {"query": {"upload": sent}, "min_score": 0, "k": 3}

        def ask(_: int) -> httpx.Response:
            answer = post("/v1/search", json=body)
            return post("/v1/search", json=body) if answer.status_code == 503 else answer  # the other one still starts

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, range(8)))
        found = [answer for answer in answers if answer.status_code == 200]
        assert found
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert len({tuple(hit["id"] for hit in answer.json()["hits"]) for answer in found}) == 1
        assert httpx.get(f"{url}/v1/libraries", timeout=5).status_code == 401
        text = httpx.get(f"{url}/metrics", headers=headers, timeout=10).text
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith('btoks_requests_total{method="POST",route="/v1/search"')
        )
        assert counted >= 8  # of both workers
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/healthz", timeout=2)
