"""The index of a library's vectors, built by a process of its own, beside readers and the writer.

It holds a lock of its own, not the writer's: the store joins a new index with rows that are written meanwhile, and
only the merging of files, which would make it void, stands back. Killed, it leaves nothing but a file of no name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from btoks.errors import BtoksError
from btoks.library import settings, upkeep
from btoks.library.disk import Syncer, indexing
from btoks.library.lease import SECONDS
from btoks.library.objects import Home, home
from btoks.library.tables import connected

_TRIES = 3
_running: dict[str, subprocess.Popen[bytes]] = {}


def start(folder: Home, exact_below: int) -> None:
    """Begin to build the index, unless this process has begun to already."""
    where = str(folder.absolute() if isinstance(folder, Path) else folder)
    if where in _running and _running[where].poll() is None:
        return
    command = [sys.executable, "-m", "btoks.library.background", where, str(exact_below)]
    quiet = subprocess.DEVNULL
    _running[where] = subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True
    )


def build(folder: Home, exact_below: int) -> None:
    """Build the index if it is due; another process that does so already is left to it."""
    try:
        with indexing(folder, wait=0 if isinstance(folder, Path) else 2 * SECONDS):
            for last in (False,) * (_TRIES - 1) + (True,):
                noted = settings.read(folder)
                try:
                    upkeep.index(connected(folder).open_table(noted.table), exact_below, noted.quantize)
                    break
                except (RuntimeError, OSError, ValueError):  # files were merged, or another table was put in its place
                    if last:
                        raise
            Syncer(folder).sync()
    except BtoksError:
        return


if __name__ == "__main__":
    os.nice(10)
    build(home(sys.argv[1]), int(sys.argv[2]))
