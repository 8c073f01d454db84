"""The lock of a library on object storage: an object that one writer has put, and renews for as long as it writes.

    put if there is none ──▶ held ──▶ put again if nobody else has, every third of a lease ──▶ put as free
Who waits looks on: a lock that has not changed for a whole lease, by the watch of the one that waits, is taken from its
holder by a put that fails if it has changed after all. No clocks are compared. Who loses its lock stops before the next
write; what it had under way meanwhile is whole or absent, since every commit of a table is a conditional put as well.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btoks.library.objects import Address

SECONDS = 30.0
_ASK_EVERY = 0.5
_FREE = b"{}"
_held: dict[str, Lease] = {}
_seen: dict[str, tuple[str, float]] = {}


class Lease:
    """A lock that is held, and renewed by a thread of its own."""

    def __init__(self, path: Address, tag: str, holder: str) -> None:
        self._path, self._tag, self._holder = path, tag, holder
        self._renewed, self._count, self._lost = time.monotonic(), 0, False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="btoks-lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another writer has the lock, or may have it."""
        return self._lost or time.monotonic() - self._renewed > SECONDS

    def release(self) -> None:
        """Stop renewing, and free the lock if it is still ours."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            self._path.put_if(_FREE, self._tag)

    def _renew(self) -> None:
        while not self._ended.wait(SECONDS / 3):
            self._count += 1
            began = time.monotonic()
            try:
                tag = self._path.put_if(_note(self._holder, self._count), self._tag)
            except BtoksError:
                continue  # the storage may answer the next time; `lost` counts from the last success
            if tag is None:
                self._lost = True
                return
            self._tag, self._renewed = tag, began


def _note(holder: str, count: int) -> bytes:
    return json.dumps({"holder": holder, "renewed": count, "host": socket.gethostname(), "pid": os.getpid()}).encode()


def still(path: Address) -> None:
    """Refuse to go on writing under a lock that was lost."""
    lease = _held.get(str(path))
    if lease is not None and lease.lost:
        reason = "its lock was lost, since it could not be renewed in time"
        raise BtoksError(str(path), reason, "run it again; what was reported as done is saved")


@contextmanager
def leased(
    path: Address, busy: Callable[[], BtoksError], wait: float, waiting: Callable[[str], Any] | None
) -> Iterator[None]:
    """Hold the lock; after waiting in vain what `busy` gives is raised. `waiting` is told once that it may last."""
    deadline, told = time.monotonic() + wait, False
    while True:
        lease = _taken(path)
        if lease is not None:
            break
        if time.monotonic() >= deadline:
            raise busy()
        if waiting is not None and not told:
            waiting(f"{busy().item}: {busy().reason}; waiting up to {wait:.0f} s")
            told = True
        time.sleep(min(_ASK_EVERY, SECONDS / 4))
    _held[str(path)] = lease
    try:
        yield
    finally:
        _held.pop(str(path), None)
        lease.release()


def _taken(path: Address) -> Lease | None:
    """The lock, if it is free, or if its holder has not renewed it for as long as we have looked on."""
    holder = uuid.uuid4().hex
    try:
        data, found = path.read()
    except FileNotFoundError:
        data, found = _FREE, None
    if data != _FREE and found is not None:
        tag, since = _seen.get(str(path), ("", 0.0))
        if tag != found:
            _seen[str(path)] = found, time.monotonic()
            return None
        if time.monotonic() - since <= SECONDS:
            return None
    mine = path.put_if(_note(holder, 0), found)
    return None if mine is None else Lease(path, mine, holder)
