"""A small library with items of every kind, and a server for it on a real socket."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from btoks.bundled import sample
from btoks.library import Library
from btoks.server import create
from library.conftest import model  # noqa: F401 - a fixture
from library.stored import write
from media import samples
from server.pages import addresses, browser, opened, seen  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

PAGE = "<!doctype html><title>Foxes</title><script>alert(1)</script><p>a fox runs"


@dataclass(frozen=True)
class Live:
    """A server that runs, and a client of it."""

    app: FastAPI
    http: httpx.Client
    server: uvicorn.Server

    @property
    def url(self) -> str:
        """With a slash at the end."""
        return f"{str(self.http.base_url).rstrip('/')}/"

    @property
    def state(self) -> Any:
        return self.app.state.shared

    def hits(self, **body: Any) -> list[dict[str, Any]]:
        answer = self.http.post("/v1/search", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["hits"]

    def hit(self, name: str) -> dict[str, Any]:
        """The first item of a file."""
        return self.hits(query="fox", k=1000, min_score=0, where=f"path like '%{name}'")[0]


@contextmanager
def serving(app: FastAPI, *, wait: bool = True, **headers: str) -> Iterator[Live]:
    """Serve on a free port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=20))
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=headers) as http:
            if wait:
                until(lambda: http.get("/healthz").status_code == 200)
            yield Live(app, http, server)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def until(done: Any, seconds: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, in folders, and in an archive."""
    folder = tmp_path_factory.mktemp("served") / "files"
    write(folder, "fox.txt", "a red fox in the snow")
    write(folder, "deep/page.html", PAGE)
    write(folder, "deep/long.md", " ".join(f"word{number}" for number in range(400)))
    write(folder, "deep/clip.mp4", samples.video(frames=36))
    for flag in ("brazil", "japan", "kenya"):
        shutil.copy(sample() / "flags" / f"{flag}.png", folder / f"{flag}.png")
    shutil.copy(sample() / "documents" / "apollo-program-en.pdf", folder / "apollo.pdf")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(sample() / "flags" / "nepal.png", "inside/nepal.png")
    return folder


@pytest.fixture(scope="session")
def folder(files: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The library's folder."""
    made = Library.create(tmp_path_factory.mktemp("library") / "mine", model=model)
    report = made.add(files)
    assert not report.errors
    return made.path


@pytest.fixture(scope="session")
def library(folder: Path) -> Library:
    """The library itself, not the one that is served."""
    return Library.open(folder)


@pytest.fixture(scope="session")
def live(folder: Path) -> Iterator[Live]:
    """A server for it."""
    with serving(create({"mine": Library.open(folder)})) as running:
        yield running
