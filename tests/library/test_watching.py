"""`btoks index --watch` in a process of its own: it follows what happens on disk, and lets others write between."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from btoks.library import Library
from btoks.library.disk import writing
from library.stored import contents, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE = 60.0


class Watcher:
    """A running `btoks index --watch`, and what it says."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self.running = running
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self.lines: queue.Queue[str] = queue.Queue()
        for pipe, into in ((running.stdout, self.reports), (running.stderr, self.lines)):
            threading.Thread(target=self._read, args=(pipe, into), daemon=True).start()

    def _read(self, pipe: Any, into: queue.Queue[Any]) -> None:
        for line in pipe:
            into.put(json.loads(line) if into is self.reports else line.strip())

    def report(self) -> dict[str, Any]:
        """The next run that did something."""
        return self.reports.get(timeout=_PATIENCE)

    def line(self, part: str) -> str:
        """The next line on stderr with some words."""
        while part not in (line := self.lines.get(timeout=_PATIENCE)):
            pass
        return line


@contextmanager
def watching(library: Path, model: Path, *paths: Path) -> Iterator[Watcher]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    options = ["--library", str(library), "--model", str(model), "--watch", "--json"]
    command = [sys.executable, "-m", "btoks", "index", *map(str, paths), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A suite that runs in the background ignores Ctrl-C, which its children would inherit.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=environment, text=True, preexec_fn=heard, **pipes) as running:
        watcher = Watcher(running)
        try:
            watcher.report()
            watcher.line("watching; Ctrl-C ends it")
            yield watcher
        finally:
            running.send_signal(signal.SIGINT)
            status = running.wait(_PATIENCE)
        assert status == 0
        assert watcher.line("stopped") == "stopped; what was done is saved"


@pytest.mark.timeout(300)
def test_what_happens_on_disk_is_followed(tmp_path: Path, model: Path) -> None:
    files = tmp_path / "files"
    for number in range(4):
        write(files, f"old/{number}.txt", f"text number {number}")
    with watching(tmp_path / "library", model, files) as watcher:
        library = Library.open(tmp_path / "library")
        write(files, "new/fox.txt", "a red fox")
        report = watcher.report()
        assert (report["embedded"], report["removed"]) == (1, 0)
        (hit,) = library.search("fox", min_score=0, where=f"path = '{files}/new/fox.txt'")
        write(files, "new/fox.txt", "a red fox in the snow, and more of it")
        assert watcher.report()["embedded"] == 1
        (files / "old").rename(files / "moved")
        report = watcher.report()
        assert (report["embedded"], report["reused"]) == (0, 4)
        assert {row["path"].rpartition("/")[0].rpartition("/")[2] for row in contents(library).values()} == {
            "moved",
            "new",
        }
        (files / "moved" / "0.txt").unlink()
        report = watcher.report()
        assert (report["embedded"], report["removed"]) == (0, 1)
        assert hit.id not in contents(library)
        write(files, ".hidden.txt", "unseen")
        with writing(library.path, wait=_PATIENCE):  # nothing is held while nothing is written
            write(files, "late.txt", "comes while another writes")
            time.sleep(2)
            assert watcher.reports.empty()
        assert watcher.report()["embedded"] == 1


@pytest.mark.timeout(300)
def test_a_root_that_vanishes_is_no_deletion(tmp_path: Path, model: Path) -> None:
    files, away = tmp_path / "files", tmp_path / "away"
    for number in range(4):
        write(files, f"{number}.txt", f"text number {number}")
    with watching(tmp_path / "library", model, files) as watcher:
        library = Library.open(tmp_path / "library")
        files.rename(away)
        assert (
            watcher.line("missing")
            == f"{files}: it is missing; what it held is kept; it is followed again when it is back"
        )
        files.mkdir()  # the place where a disk was mounted
        write(files, "other.txt", "something else")
        assert watcher.report()["embedded"] == 1
        (files / "other.txt").unlink()
        assert "5 of its 5 files are gone" in watcher.line("files are gone")
        assert library.stats()["rows"] == 5
        files.rmdir()
        away.rename(files)
        write(files, "back.txt", "followed again")
        report = watcher.report()
        assert (report["embedded"], report["unchanged"]) == (1, 4)
        assert library.stats()["rows"] == 6
