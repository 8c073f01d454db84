"""Makes docs/page.webp: the sample, indexed with the bundled model, searched in a browser: `make_screenshot.py`.

Needs Debian's chromium and Python's playwright.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from btoks.bundled import sample
from btoks.library import Library

OUT = Path(__file__).parents[1] / "docs" / "page.webp"
QUERY = "jellyfish in blue water"
SIZE = {"width": 1280, "height": 720}


def served(library: Path, port: int) -> subprocess.Popen[bytes]:
    """A server that is ready."""
    running = subprocess.Popen([sys.executable, "-m", "btoks", "serve", str(library), "--port", str(port)])
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
                return running
        except OSError:
            time.sleep(0.5)
    running.kill()
    raise SystemExit("the server did not get ready")


def shot(port: int) -> Image.Image:
    """The page with the hits of the query."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=SIZE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.keyboard.press("/")
        page.keyboard.type(QUERY)
        page.get_by_text("results in").wait_for()
        page.wait_for_timeout(2000)
        return Image.open(io.BytesIO(page.screenshot()))


def main() -> None:
    """Index, serve, look, write."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "sample"
        kinds = ("photos", "flags", "icons", "videos", "documents", "notes")
        Library.create(folder).add([sample() / kind for kind in kinds])
        running = served(folder, port)
        try:
            shot(port).save(OUT, quality=88, method=6)
        finally:
            running.terminate()
            running.wait()
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
