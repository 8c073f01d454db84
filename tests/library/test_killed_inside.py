"""Killed inside a compaction, an index build, a deletion, a reindex: all is there, and the next run does the step."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btoks.library import Library, background

N, D = 600, 16
IDS = [f"i{place:03}" for place in range(N)]
GONE = IDS[::10]
_SERVER = """
import os, sys
import btoks.methods.quantize.int8
for line in sys.stdin:
    pid = os.fork()  # before the store is imported: its threads do not survive a fork
    if pid:
        os.waitpid(pid, 0)
        print("ended", flush=True)
        continue
    sys.path.insert(0, sys.argv[1])
    from library.test_killed_inside import step
    from btoks.library import Library
    name, folder = line.split()
    library = Library.open(folder)
    print(os.getpid(), flush=True)
    step(library, name)
    os._exit(0)
"""
AIMS = [
    ("compact", "items.lance/data/*"),
    ("compact", "items.lance/_versions/*"),
    ("delete", "items.lance/_deletions/*"),
    ("build", "items.lance/_indices/*"),
    ("reindex", "next.json"),
    ("reindex", "items-1.lance/data/*"),
    ("reindex", "items-1.lance/_indices/*"),
    ("reindex", "items-1.lance/_indices/*/*"),
    ("reindex", "gone: next.json"),
]
"""A step, and what appears in the folder inside of it."""


def step(library: Library, name: str) -> None:
    """What is killed, and done again afterwards."""
    if name == "compact":
        library.compact()
    elif name == "delete":
        library.remove(GONE)
    elif name == "build":
        background.build(library.path, 256)
    else:
        library.reindex(quantize="int8")


def made() -> Any:
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of many small writes."""
    library = Library.create(tmp_path_factory.mktemp("template") / "library", model=None)
    for start in range(0, N, 30):
        library.add_vectors(IDS[start : start + 30], made()[start : start + 30])
    return library.path


@contextlib.contextmanager
def server() -> Iterator[subprocess.Popen[str]]:
    """A process that begins a step, in a process of its own, for every line it is given."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SERVER, str(Path(__file__).parents[1])]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as running:
        try:
            yield running
        finally:
            assert running.stdin is not None
            running.stdin.close()


def killed(running: subprocess.Popen[str], name: str, folder: Path, marker: str) -> None:
    """Begin a step and kill it as soon as the marker is there, or gone."""
    assert running.stdin is not None
    assert running.stdout is not None
    gone, pattern = marker.startswith("gone: "), marker.removeprefix("gone: ")
    before = set(folder.glob(pattern))
    running.stdin.write(f"{name} {folder}\n")
    running.stdin.flush()
    pid, seen = int(running.stdout.readline()), False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not ended(pid):
        there = bool(set(folder.glob(pattern)) - before)
        if (seen and not there) if gone else there:
            break
        seen = seen or there
        time.sleep(0.0005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert running.stdout.readline() == "ended\n"


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def whole(library: Library) -> set[str]:
    """The ids that are there, each once and found by its vector."""
    ids = [row["id"] for row in library.view.store.get("id IS NOT NULL", ["id"])]
    assert len(set(ids)) == len(ids)
    for place in (1, 7, 333):
        assert library.search_vector(made()[place], k=1)[0].id == IDS[place]
    return set(ids)


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.timeout(300)
def test_a_step_that_was_killed_leaves_all_and_is_done_by_the_next_run(template: Path, tmp_path: Path) -> None:
    with server() as running:
        for number, (name, marker) in enumerate(AIMS):
            folder = tmp_path / f"{number}"
            shutil.copytree(template, folder)
            killed(running, name, folder, marker)
            library, wanted = Library.open(folder), {*IDS} - {*(GONE if name == "delete" else ())}
            assert whole(library) in ({*IDS}, wanted)
            if name != "reindex" or library.stats()["quantize"] is None:
                step(library, name)
            assert whole(library) == wanted
            assert library.stats()["quantize"] == ("int8" if name == "reindex" else None)
            library.compact()
            assert whole(library) == wanted
            assert len(list(folder.glob("items*"))) == 1
            assert not list(folder.rglob("*.tmp*"))
            assert held(folder) <= 1.1 * uninterrupted(template, tmp_path / f"{number} plain", name)


def uninterrupted(template: Path, folder: Path, name: str) -> int:
    """The bytes after the same step, not killed."""
    shutil.copytree(template, folder)
    library = Library.open(folder)
    step(library, name)
    library.compact()
    return held(folder)
