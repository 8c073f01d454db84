"""A real server over a small real library, and a browser that looks at its page."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import btoks
from btoks.library import Library
from items import attached
from media import samples

expect.set_options(timeout=15_000)
TOKEN = "open-sesame"
WORDS = " ".join(f"common{number % 7} word{number}" for number in range(300))
_SERVER = """
import asyncio, socket, sys, torch, uvicorn
from btoks.library import Library
from btoks.server.app import create
from btoks.server.state import Settings

torch.set_num_threads(1)

async def main():
    library, servers = Library.open(sys.argv[1]), []
    for token in (None, sys.argv[2]):
        at = socket.create_server(("127.0.0.1", 0))
        app = create({"things": library}, settings=Settings(token=token))
        servers.append(uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)).serve([at]))
        print(at.getsockname()[1], flush=True)
    await asyncio.gather(*servers)

asyncio.run(main())
"""
GIVE = """([event, files]) => {
    const data = new DataTransfer();
    for (const [name, type, content] of files) {
        data.items.add(new File([Uint8Array.from(atob(content), (each) => each.charCodeAt(0))], name, {type}));
    }
    const given = {bubbles: true, cancelable: true};
    document.body.dispatchEvent(event === "paste"
        ? new ClipboardEvent("paste", {...given, clipboardData: data})
        : new DragEvent(event, {...given, dataTransfer: data}));
}"""


def made(folder: Path) -> Path:
    """A library of pictures, a clip in three parts, a PDF, and texts, from three years."""
    files = folder / "files"
    write(files, "fox.txt", b"a red fox in the snow", 2019)
    write(files, "deep/er/long.md", WORDS.encode(), 2019)
    write(files, "paper.pdf", samples.pdf(), 2021)
    write(files, "clips/clip.mp4", samples.video(frames=12, rate=2), 2021)
    for kind in ("png", "webp", "jpeg_exif", "gif_palette"):
        write(files, f"deep/{kind}.{kind.partition('_')[0]}", samples.samples()[kind], 2023)
    btoks.save(attached("qwen3_vl"), folder / "model")
    Library.create(folder / "library", model=folder / "model").add([files])
    return folder / "library"


def write(folder: Path, name: str, content: bytes, year: int) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    seconds = (year - 1970) * 31_556_952 + 15_000_000
    os.utime(path, (seconds, seconds))


@contextmanager
def served(library: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a server without and of one with a token, both ready."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SERVER, str(library), TOKEN]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            ports = [int(process.stdout.readline()) for _ in range(2)]  # type: ignore[union-attr]
            yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        finally:
            process.kill()


def chromium() -> str:
    """Where Debian's Chromium is; where it is not, one line says how to get it."""
    found = shutil.which("chromium")
    if found is None:
        raise FileNotFoundError("the page's tests need a browser: apt-get install chromium")
    return found


@dataclass
class Seen:
    """What went on in a browser's page: console errors, requests to others, and searches in their order."""

    home: str
    wrong: list[str] = field(default_factory=list)
    searches: list[Any] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.home, "blob:", "data:")):
            self.wrong.append(f"asked elsewhere: {request.url}")
        if request.url.endswith("/v1/search"):
            self.searches.append(request.post_data_json)


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Without and with a token."""
    with served(made(tmp_path_factory.mktemp("page"))) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: as long as it is there, its event loop runs, and no other test can run one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def seen(addresses: tuple[str, str]) -> Seen:
    return Seen(addresses[0])


@pytest.fixture
def opened(browser: Browser, seen: Seen) -> Iterator[Callable[..., Page]]:
    """Opens an address of the page, in a window of its own; in the end nothing may have gone wrong in it."""
    contexts = []

    def opened(search: str = "", **options: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
        contexts[-1].grant_permissions(["clipboard-read", "clipboard-write"])
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        seen.watch(page)
        ready(page, seen.home)
        page.goto(f"{seen.home}/{search}")
        expect(page.locator(".card, #nothing:visible, #map:visible").first).to_be_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen.wrong == []


def ready(page: Page, home: str) -> None:
    deadline = time.monotonic() + 60
    while page.request.get(f"{home}/healthz").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def names(page: Page) -> list[str]:
    return page.locator(".card .name").all_text_contents()


def give(page: Page, event: str, *files: tuple[str, str, bytes]) -> None:
    page.evaluate(GIVE, [event, [[name, kind, base64.b64encode(content).decode()] for name, kind, content in files]])


def params(page: Page) -> str:
    return page.evaluate("decodeURIComponent(location.search)")
