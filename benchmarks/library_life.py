"""The parts of `benchmarks/library.py` that follow a library through its life: rounds of change, reindex, files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from made import Floats, K, across, best, built, held, made
from PIL import Image

from btoks.library import Library

Facts = dict[str, Any]
ROUNDS = 100
_OPEN = """
import sys, time
import lancedb, lancedb.index, pyarrow.compute, numpy as np
from btoks.library import Library, background
from btoks.methods.quantize import _kernels
query, began = np.load(sys.argv[2]), time.perf_counter()
library = Library.open(sys.argv[1])
hits = library.search_vector(query)
first = time.perf_counter()
library.search_vector(query)
print(first - began, time.perf_counter() - first, len(hits))
"""


def rounds(scale: float, home: Path) -> list[Facts]:
    """Recall and p50 after many rounds of change, beside a library of the same rows made anew."""
    count, step = max(2_000, int(200_000 * scale)), max(20, int(2_000 * scale))
    vectors_ND = made(count + ROUNDS * step, 128)
    library = built(home / "old", vectors_ND[:count])
    for number in range(ROUNDS):
        start = count + number * step
        names = [str(place) for place in range(start, start + step)]
        library.add_vectors(names, vectors_ND[start : start + step])
        library.remove([str(place) for place in range(number * step, (number + 1) * step)])
        if number % 10 == 9:
            library.compact()
    left_ND = vectors_ND[ROUNDS * step :]
    fresh = built(home / "new", left_ND)
    old, new = (measured(each, left_ND, offset) for each, offset in ((library, ROUNDS * step), (fresh, 0)))
    return [
        {"rows": len(left_ND), "rounds": ROUNDS, **{f"{name} after": value for name, value in old.items()}},
        {f"{name} of a fresh one": value for name, value in new.items()},
        {"recall lost": new["recall"] - old["recall"], "× p50": old["p50 ms"] / new["p50 ms"]},
    ]


def measured(library: Library, vectors_ND: Floats, offset: int) -> dict[str, float]:
    """Recall and p50 of a library whose ids are places in the vectors, moved by an offset."""
    right, times, queries_QD = 0, [], across(vectors_ND)
    for query_D in queries_QD:
        began = time.perf_counter()
        hits = library.search_vector(query_D, K)
        times.append(1000 * (time.perf_counter() - began))
        right += len({int(hit.id) - offset for hit in hits} & set(best(vectors_ND @ query_D)))
    return {"recall": right / K / len(queries_QD), "p50 ms": float(np.median(times))}


def reindex(scale: float, home: Path) -> list[Facts]:
    """Codes in the place of vectors, while a thread searches and another looks at the disk."""
    vectors_ND = made(int(1_000_000 * scale), 256)
    library = built(home / "library", vectors_ND)
    library.compact()
    before, query_D = held(library.path), across(vectors_ND, 1)[0]
    failed, times = list[str](), list[float]()

    def ask() -> None:
        began = time.perf_counter()
        try:
            hits = reader.search_vector(query_D, K)
            failed.extend([] if len(hits) == K else [f"{len(hits)} hits"])
        except Exception as error:
            failed.append(str(error))
        times.append(time.perf_counter() - began)

    reader, most, began = Library.open(library.path), [before], time.perf_counter()
    with repeated(ask), repeated(lambda: most.append(held(library.path))):
        library.reindex(quantize="pca:0.5+float8")
    facts = {"rows": len(vectors_ND), "seconds": time.perf_counter() - began, "searches meanwhile": len(times)}
    facts |= {"failed": len(failed), "slowest s": max(times), "× bytes at most": max(most) / before}
    return [{**facts, "× bytes after": held(library.path) / before, "first failures": failed[:3]}]


@contextmanager
def repeated(what: Callable[[], Any]) -> Iterator[None]:
    """Do something again and again meanwhile."""
    done = threading.Event()

    def go() -> None:
        while not done.wait(0.01):
            what()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def opening(scale: float, home: Path) -> list[Facts]:
    """Opening and the first search of a new process, five times, plain and with codes."""
    vectors_ND, found = made(int(1_000_000 * scale), 256), []
    library = built(home / "library", vectors_ND)
    np.save(home / "query.npy", across(vectors_ND, 1)[0])
    for quantize in (None, "int8"):
        if quantize is not None:
            library.reindex(quantize=quantize)
        command = [sys.executable, "-c", _OPEN, str(library.path), str(home / "query.npy")]
        runs = [
            [float(each) for each in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]
            for _ in range(5)
        ]
        first, second, hits = np.median(runs, axis=0)
        facts = {"rows": len(vectors_ND), "quantize": quantize, "open + first search s": float(first)}
        found.append({**facts, "second search s": float(second), "hits": int(hits)})
    return found


def files(scale: float, home: Path) -> list[Facts]:
    """Unchanged files cost a look, moved ones a hash: many small texts, of which many are alike."""
    count, alike = int(100_000 * scale), 200
    for number in range(count):
        folder = home / "files" / str(number % 50)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"note {number % alike}")
    library = Library.create(home / "library")
    began = time.perf_counter()
    report = library.add(home / "files")
    first = time.perf_counter() - began
    bare, again = (
        [timed(what) for _ in range(3)] for what in (lambda: looked(home), lambda: library.add(home / "files"))
    )
    (home / "files").rename(home / "moved")
    began = time.perf_counter()
    moved = library.add(home / "moved")
    seconds = time.perf_counter() - began
    facts = {"files": report.files, "contents": report.embedded, "first pass s": first, "scandir + stat s": min(bare)}
    facts |= {"second pass s": min(again), "× scandir + stat": min(again) / min(bare)}
    return [{**facts, "moved s": seconds, "embedded of the moved": moved.embedded}]


def timed(what: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def looked(home: Path) -> int:
    """A bare walk."""
    count, waiting = 0, [str(home / "files")]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                entry.stat()
                count += 1
                if entry.is_dir():
                    waiting.append(entry.path)
    return count


def model(scale: float, home: Path) -> list[Facts]:
    """Indexing pictures beside `encode_stream` alone on the same pictures, in turn."""
    import btoks

    count, rng, shares = max(16, int(400 * scale)), np.random.default_rng(0), []
    opened = btoks.load("btoks-mini")
    (home / "pictures").mkdir()
    for number in range(3 * count):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480)).save(home / "pictures" / f"{number}.jpg")
    for turn in range(3):
        paths = [home / "pictures" / f"{number}.jpg" for number in range(turn * count, (turn + 1) * count)]
        library = Library.create(home / f"library{turn}")
        library.search("warm", min_score=0)
        whole = timed(lambda chosen=paths, to=library: to.add(chosen))  # type: ignore[misc]
        alone = timed(
            lambda chosen=paths: list(btoks.encode_stream(opened, map(btoks.Source, chosen), on_error="skip"))
        )  # type: ignore[misc]
        shares.append(alone / whole)
    return [{"pictures": count, "share of preprocessing and model": float(np.median(shares)), "worst": min(shares)}]
