"""How soon after a pause in typing does the page show the first results?

    python benchmarks/page.py [--json FILE] [--items 10000] [--queries 60] [--model btoks-mini]

A library of made vectors and a real model (its items are pictures, clips, pages and passages, with thumbnails) is
served by `btoks serve` and searched in headless Chromium. Measured for each query:

    pause ends ──▶ searched (embedded ──▶ ranked) ──▶ painted ──▶ pictured
(a) painted    from the end of the page's pause, when it asks, until the frame with the cards is drawn
(b) pictured   until the thumbnails in the window are there as well
(c) searched   the same search by a bare HTTP client
(d) embedded   the query alone, by `/v1/embeddings`: the share that the model has
Every query is new to the page and the server. The vectors lie around those of the queries, so that there are hits.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks import encode_stream
from btoks.library import Library

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {"image": 0.6, "video": 0.15, "pdf": 0.15, "text": 0.1}
WARM, SEED, NOISE = 5, 0, 0.7
SUBJECTS = "a fox,two boats,an old map,the harbour,a red door,some bread,the orchestra,a tall tower,a chart,my dog"
PLACES = "in the snow,at night,by the river,on a table,under trees,in an office,near the sea,on page two"
LIMIT, REST = 150.0, 250
WATCH = """() => {
    const grid = document.getElementById("grid");
    for (const step of ["pushState", "replaceState"]) {
        const own = history[step];
        history[step] = function (...given) { window.asked = performance.now(); return own.apply(this, given); };
    }
    const inside = (each) => each.getBoundingClientRect().top < innerHeight;
    const pictured = () => {
        if ([...grid.querySelectorAll("img")].every((each) => each.complete || !inside(each))) {
            window.pictured = performance.now();
        } else requestAnimationFrame(pictured);
    };
    new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
        window.painted = performance.now();
        pictured();
    }))).observe(grid, { childList: true });
}"""
TYPE = """(text) => {
    window.asked = window.painted = window.pictured = 0;
    const field = document.getElementById("q");
    field.value = text;
    field.dispatchEvent(new Event("input"));
}"""


def main() -> None:
    """Build, serve, ask, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--model", default="btoks-mini")
    options = parser.parse_args()
    queries = wordings(options.queries + WARM)
    with tempfile.TemporaryDirectory() as folder:
        dim = made(Path(folder) / "things", options.items, options.model, queries)
        with served(Path(folder) / "things") as home:
            found = {**in_browser(home, queries), **by_client(home, queries)}
    record: dict[str, Any] = {"items": options.items, "dim": dim, "model": options.model, "queries": options.queries}
    cards = np.median(found.pop("cards")[WARM:])
    record["cards"] = float(cards)
    print(
        f"{options.items:,} items of {dim} dimensions, {options.queries} queries, {cards:.0f} cards each, milliseconds"
    )
    print(f"{'':<10}{'median':>10}{'p95':>10}")
    for name, times in found.items():
        median, late = np.percentile(times[WARM:], [50, 95])
        record[name] = {"median_ms": float(median), "p95_ms": float(late)}
        print(f"{name:<10}{median:>10.1f}{late:>10.1f}")
    record["model_share"] = record["embedded"]["median_ms"] / record["painted"]["median_ms"]
    print(f"the model's share of painted: {record['model_share']:.0%}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if record["painted"]["median_ms"] > LIMIT:
        sys.exit(f"slower than {LIMIT:.0f} ms")


def wordings(count: int) -> list[str]:
    """Queries that differ."""
    every = [f"{one} {other}" for other in PLACES.split(",") for one in SUBJECTS.split(",")]
    return [f"{every[place % len(every)]} {place // len(every) or ''}".strip() for place in range(count)]


def made(folder: Path, count: int, model: str, about: list[str]) -> int:
    """A library of made rows, as if files about some things had been indexed; its dimension."""
    library = Library.create(folder, model=model)
    centres = np.stack([out.embedding for out in encode_stream(library.model, about, task="query")])
    random, dim = np.random.default_rng(SEED), centres.shape[1]
    noise_ND = random.standard_normal((count, dim), dtype=np.float32) * NOISE / np.sqrt(dim)
    vectors_ND = centres[np.arange(count) % len(centres)] + noise_ND
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    pictures = [thumbnail(random) for _ in range(64)]
    kinds = random.choice(list(KINDS), count, p=list(KINDS.values()))
    library._store.put([row(place, str(kind), vectors_ND[place], pictures) for place, kind in enumerate(kinds)])
    library.compact()
    return dim


def row(place: int, kind: str, vector_D: Any, pictures: list[bytes]) -> dict[str, Any]:
    """What the library would hold of a file."""
    folder, path = f"folder{place % 40}", f"/things/folder{place % 40}/thing{place}"
    facts = {"page": place % 9 + 1} if kind == "pdf" else {"start": 4.0, "end": 9.5} if kind == "video" else {}
    text = f"A passage, number {place}. " * 20 if kind == "text" else None
    own = {"id": f"{place:032x}", "content": f"{place:032x}", "kind": kind, "path": path, "folder": folder}
    places = {"year": 2000 + place % 25, "paths": [path], "origins": [path], "folders": [folder], "years": [2000]}
    shown = None if kind == "text" else pictures[place % len(pictures)]
    return {**own, **places, **facts, "text": text, "thumbnail": shown, "vector": vector_D}


def thumbnail(random: np.random.Generator) -> bytes:
    """A picture of the size that libraries keep, and about as many bytes as one of a photo."""
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((192, 144))
    data = io.BytesIO()
    coarse.save(data, "JPEG", quality=80)
    return data.getvalue()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the library, once it is warm."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("btoks")), "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        while True:
            time.sleep(0.2)
            try:
                urllib.request.urlopen(f"{home}/healthz").close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit("the server ended")
        yield home
    finally:
        process.terminate()
        process.wait()


def in_browser(home: str, queries: list[str]) -> dict[str, list[float]]:
    """Each query typed into the page: when it was painted, when its pictures were there, and how many cards it has."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"painted": [], "pictured": [], "cards": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(home)
        page.wait_for_selector(".card")
        page.evaluate(WATCH)
        for query in queries:
            page.evaluate(TYPE, query)
            page.wait_for_function("() => window.asked && window.pictured > window.asked")
            asked, painted, pictured = page.evaluate("[window.asked, window.painted, window.pictured]")
            found["painted"].append(painted - asked)
            found["pictured"].append(pictured - asked)
            found["cards"].append(page.locator(".card").count())
            page.wait_for_timeout(REST)
        browser.close()
    return found


def by_client(home: str, queries: list[str]) -> dict[str, list[float]]:
    """Each query sent without a browser: the whole search, and its embedding alone."""
    bodies = {
        "searched": ("search", lambda query: {"query": {"text": query}, "k": 48}),
        "embedded": ("embeddings", lambda query: {"input": query, "task": "query"}),
    }
    found: dict[str, list[float]] = {}
    for name, (path, body) in bodies.items():
        for query in queries:
            data = json.dumps(body(query)).encode()
            request = urllib.request.Request(f"{home}/v1/{path}", data, {"Content-Type": "application/json"})
            started = time.perf_counter()
            urllib.request.urlopen(request).read()
            found.setdefault(name, []).append(1000 * (time.perf_counter() - started))
    return found


if __name__ == "__main__":
    main()
