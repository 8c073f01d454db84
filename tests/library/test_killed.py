"""What is written survives: a killed indexer, two writers, a reader beside them, a folder that cannot be written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.library import Library, disk
from items import python
from library.stored import same, write

KILLS = 10
_RUNS = """
import os, sys
from btoks.library import ingest, parts
import btoks.encode, btoks.folder
for _ in sys.stdin:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        print("ended", flush=True)
        continue
    from btoks.library import Library
    ingest._PIECE, ingest._BATCH = 8, 4
    print(os.getpid(), flush=True)
    library = Library.open(sys.argv[1])
    library.add(sys.argv[2], prune=True, progress=lambda report: print("done", report.embedded, flush=True))
    print("all", flush=True)
    os._exit(0)
"""


@contextmanager
def indexers(library: Path, files: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that begins a run, in a process of its own, for every line it is given."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _RUNS, str(library), str(files)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as running:
        yield running
        errors = running.communicate()[1]
        assert "Traceback" not in errors, errors


def killed(running: subprocess.Popen[str], chance: random.Random, *, early: bool) -> list[str]:
    """Begin a run, kill it at some moment, and return what it had said."""
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.flush()
    pid = int(running.stdout.readline())
    said = []
    for _ in range(0 if early else chance.randrange(1, 8)):
        said.append(running.stdout.readline())
        if said[-1] == "ended\n":
            return said
    time.sleep(chance.uniform(0, 1.5 if early else 0.03))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while (line := running.stdout.readline()) != "ended\n":
        said.append(line)
    return said


@pytest.mark.timeout(300)
def test_a_killed_run_goes_on_to_the_same_library(model: Path, tmp_path: Path) -> None:
    """Killed at random moments of the run, most of them between its first commit and its last."""
    files, chance = tmp_path / "files", random.Random(5)
    for number in range(40):
        write(files, f"d{number % 5}/{number}.txt", f"text {number} " + "words " * (number * 4))
    Library.create(tmp_path / "library", model=model)
    acknowledged = 0
    with indexers(tmp_path / "library", files) as running:
        for kill in range(KILLS):
            said = killed(running, chance, early=kill % 3 == 2)
            acknowledged = whole(Library.open(tmp_path / "library"), acknowledged)
            if "all\n" in said:
                acknowledged = 0
                shutil.move(files / "d0", files / f"moved{kill}")
                (files / "d0").mkdir()
                for number in range(20):
                    write(files, f"extra{kill}/{number}.txt", f"one more {kill} {number}")
    library, fresh = Library.open(tmp_path / "library"), Library.create(tmp_path / "fresh", model=model)
    library.add(files, prune=True)
    fresh.add(files)
    same(library, fresh)
    library.compact()
    assert not list(library.path.rglob("*.tmp*"))
    same(library, fresh)


def whole(library: Library, acknowledged: int) -> int:
    """How many rows there are: each once, none without a place, none that was there missing."""
    rows = library._store.get("id IS NOT NULL", ["id", "paths"])
    assert library.check()["missing"] == 0
    assert len({row["id"] for row in rows}) == len(rows) >= acknowledged
    assert all(row["paths"] for row in rows)
    return len(rows)


def test_everything_reported_as_saved_was_synced(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of only what was synced, as a power loss would leave it, holds all that was reported."""
    synced: set[int] = set()
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    library = Library.create(tmp_path / "library", model=model)
    for number in range(3):
        write(tmp_path / "files", f"{number}.txt", f"text {number}")
        library.add(tmp_path / "files")
        there = tmp_path / f"after{number}"
        for path in (library.path, *library.path.rglob("*")):
            copy = there / path.relative_to(library.path)
            assert path.stat().st_ino in synced or path.name == "lock", path
            copy.mkdir(exist_ok=True) if path.is_dir() else shutil.copy(path, copy)
        assert Library.open(there).stats()["rows"] == number + 1


def test_the_second_writer_waits_then_says_so(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "library", model=None)
    with disk.writing(library.path, wait=0):
        with pytest.raises(BtoksError, match="another process writes to it"):
            library.add_vectors(["a"], [[1.0, 0.0]], wait=0.2)
        told: list[str] = []
        waiting = threading.Thread(target=_take, args=(library.path, told), name="writer")
        waiting.start()
        while not told:
            time.sleep(0.01)
    waiting.join()
    assert told == [f"{library.path}: another process writes to it; waiting up to 20 s", "had it"]


def _take(folder: Path, told: list[str]) -> None:
    with disk.writing(folder, wait=20, waiting=told.append):
        told.append("had it")


def test_writers_and_a_reader_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    Library.create(folder, model=None).add_vectors(["start"], np.ones((1, 8)))
    failures: list[Exception] = []

    def write_some(name: str) -> None:
        library = Library.open(folder)
        for number in range(10):
            library.add_vectors([f"{name}{number}"], np.random.default_rng(number).normal(size=(1, 8)))

    def read_all(done: threading.Event) -> None:
        library, last = Library.open(folder), 0
        try:
            while not done.is_set():
                count = len(library.search_vector(np.ones(8), k=100))
                assert count >= last
                last = count
        except Exception as error:
            failures.append(error)

    done = threading.Event()
    reader = threading.Thread(target=read_all, args=(done,))
    writers = [threading.Thread(target=write_some, args=(name,)) for name in "ab"]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    Library.open(folder).compact()
    done.set()
    reader.join()
    assert failures == []
    assert Library.open(folder).stats()["rows"] == 21


_READ_ONLY = """
import sys
import numpy as np
from btoks.library import Library
library = Library.open(sys.argv[1])
print([hit.id for hit in library.search_vector(np.ones(4))])
try:
    library.add_vectors(["b"], np.ones((1, 4)))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_library_that_cannot_be_written_can_be_searched() -> None:
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        folder = Path(home) / "library"
        Library.create(folder, model=None).add_vectors(["a"], np.ones((1, 4)))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            ran = _as_nobody(_READ_ONLY, folder)
        finally:
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755)
    lines = ran.stdout.splitlines()
    assert lines[0] == "['a']", ran.stderr
    assert lines[1].startswith("BtoksError")
    assert "it cannot be written (Permission denied)" in lines[1]


def _as_nobody(code: str, *arguments: object) -> Any:
    """Root may write anywhere: without its rights the code says what others see."""
    drop = "import os\nif os.geteuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
    before = "import btoks.library, lancedb, lancedb.index, pyarrow.compute, numpy\n"
    return python(before + drop + code, *arguments, HOME="/tmp")


_WRITE_FULL = """
import sys
import numpy as np
from btoks.library import Library
library, done = Library.open(sys.argv[1]), 0
try:
    for number in range(1000):
        vectors = np.random.default_rng(number).normal(size=(100, 64))
        library.add_vectors([f"{number}-{row}" for row in range(100)], vectors)
        done += 100
except Exception as error:
    print(done, type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        Library.create(small / "library", model=None)
        done, kind, message = python(_WRITE_FULL, small / "library").stdout.strip().split(" ", 2)
        assert kind == "BtoksError", message
        assert "the disk is full" in message
        library = Library.open(small / "library")
        assert library.stats()["rows"] >= int(done) > 0
        assert len(library.search_vector(np.ones(64), k=10)) == 10
    finally:
        subprocess.run(["umount", str(small)], check=True)
