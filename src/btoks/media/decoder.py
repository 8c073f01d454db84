"""Decoding in a worker process: FFmpeg and PDFium can crash, hang or bloat, and must not take the run along."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from btoks.media import wire
from btoks.media.loading import from_memory, kind, page_count
from btoks.media.source import DEFAULT, Item, Limits, MediaError, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from btoks.media.sniff import Family

_T = TypeVar("_T")
_START = 60.0
"""Seconds that a worker may take to start; a loaded machine needs several."""


class Decoder:
    """`load` in one reusable worker: a file that kills, stalls or bloats it costs one error and gets it replaced.

    Pictures and arrays already in memory are taken as they are, without the worker. `memory` limits the worker's
    address space in bytes, `timeout` the seconds for one file. Threads may share a decoder; they take turns.

    >>> with Decoder() as decoder:
    ...     decoder.load(Source(b"hello"))
    {'text': 'hello'}
    """

    def __init__(self, limits: Limits = DEFAULT, *, memory: int = 1 << 30, timeout: float = 30.0) -> None:
        self._limits, self._memory, self._timeout = limits, memory, timeout
        self._worker: _Worker | None = None
        self._turn = threading.Lock()

    def load(self, source: Source) -> Item:
        """The item, exactly as `load(source, limits)` gives it; MediaError for whatever goes wrong."""
        item = from_memory(source, self._limits, self.load)
        if item is None:
            item = self._ask("load", source, wire.unpack_item)
        return item

    def kind(self, source: Source) -> Family:
        """What `load` would make of a source, as `kind(source, limits)` tells it."""
        if isinstance(source.uri, str | Path | bytes):
            return self._ask("kind", source, wire.unpack_kind)
        return kind(source, self._limits)

    def page_count(self, source: Source) -> int:
        """How many pages a PDF has, as `page_count(source, limits)` tells it."""
        if isinstance(source.uri, str | Path | bytes):
            return self._ask("page_count", source, wire.unpack_count)
        return page_count(source, self._limits)

    @property
    def pid(self) -> int | None:
        """The process id of the running worker, None while there is none."""
        return self._worker.process.pid if self._worker else None

    def close(self) -> None:
        """End the worker; a later `load` starts a new one."""
        with self._turn:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, sort: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, question: wire.Question, source: Source, unpack: Callable[[wire.Header, list[bytearray]], _T]) -> _T:
        with self._turn:
            worker = self._started(source)
            try:
                return unpack(*self._exchange(worker, question, source))
            except MediaError:
                raise
            except BaseException as error:
                # Whatever was under way, the next answer would be to the wrong question.
                died = self._end()
                if not isinstance(error, Exception):
                    raise
                raise self._failure(source, error, died) from error

    def _started(self, source: Source) -> _Worker:
        """The worker, a new one if there is none that lives and is this process's own."""
        worker = self._worker
        if worker is not None and worker.owner == os.getpid() and worker.process.poll() is None:
            return worker
        self._end()
        self._worker = worker = _Worker(self._memory, self._timeout)
        try:
            wire.send(worker.connection, wire.pack_limits(self._limits))
            wire.receive(worker.connection, 0, time.monotonic() + _START)
        except BaseException as error:
            self._end()
            if not isinstance(error, OSError | EOFError | ValueError):
                raise
            command = "python -m btoks.media.worker"
            raise MediaError(
                source.name, "the decoding process did not start", f"see whether {command} runs"
            ) from error
        return worker

    def _exchange(
        self, worker: _Worker, question: wire.Question, source: Source
    ) -> tuple[wire.Header, list[bytearray]]:
        connection, deadline = worker.connection, time.monotonic() + self._timeout
        wire.send(connection, *wire.pack_question(question, source), deadline)
        header, buffers = wire.receive(connection, self._memory, deadline)
        if "error" not in header:
            return header, buffers
        reason, way_out = (str(part) for part in header["error"])
        if header.get("spent"):
            # Memory that ran out once is in pieces afterwards: the next file would fail where it should not.
            self._end()
        raise MediaError(source.name, reason, way_out)

    def _failure(self, source: Source, error: Exception, died: int | None) -> MediaError:
        if isinstance(error, TimeoutError):
            return MediaError(source.name, f"was not decoded within {self._timeout} s", "raise timeout, or skip it")
        if isinstance(error, OSError | EOFError):
            cause = signal.Signals(-died).name if died is not None and died < 0 else f"exit status {died}"
            return MediaError(
                source.name, f"crashed the decoding process ({cause})", "repair it, raise memory, or skip it"
            )
        return MediaError(source.name, f"confused the decoding process ({error})", "repair it, or skip it")

    def _end(self) -> int | None:
        worker, self._worker = self._worker, None
        return worker.end() if worker else None


class _Worker:
    """One process and the socket to it, ended at the latest when this object or the interpreter goes."""

    def __init__(self, memory: int, timeout: float) -> None:
        self.owner = os.getpid()
        self.connection, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                [sys.executable, "-P", "-m", "btoks.media.worker", str(theirs.fileno()), str(memory), str(timeout)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                # Ctrl-C is for the parent, which ends the worker in its own time.
                process_group=0,
            )
        self.end = weakref.finalize(self, _end, self.process, self.connection, self.owner)


def _environment() -> dict[str, str]:
    """Ours, with the same modules importable, and without thread pools, whose stacks would eat the address space."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _end(process: subprocess.Popen[bytes], connection: socket.socket, owner: int) -> int | None:
    connection.close()
    if os.getpid() != owner:
        # After a fork the worker is still the parent's.
        return None
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It may be about to die by itself; how it died tells the reason.
            return process.wait(0.2)
        process.kill()
    return process.wait()
