"""The process behind `Decoder`: reads sources from a socket, answers with items or errors, until the socket closes."""

from __future__ import annotations

import resource
import signal
import socket
import sys
import warnings

from btoks.media import wire
from btoks.media.loading import kind, load, page_count
from btoks.media.source import Limits, MediaError

_GRACE = 10.0
"""Seconds after the time-out at which a worker ends itself: its parent, who should have done so, is gone."""


def main(descriptor: int, memory: int, timeout: float) -> None:
    """Serve one parent."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    with socket.socket(fileno=descriptor) as connection:
        limits = wire.unpack_limits(wire.receive(connection)[0])
        wire.send(connection, {})
        while True:
            try:
                header, buffers = wire.receive(connection)
            except (EOFError, OSError):
                return
            signal.setitimer(signal.ITIMER_REAL, timeout + _GRACE)
            wire.send(connection, *_answer(header, buffers, limits))
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(header: wire.Header, buffers: list[bytearray], limits: Limits) -> tuple[wire.Header, list[wire.Buffer]]:
    try:
        question, source = wire.unpack_question(header, buffers)
        if question == "load":
            return wire.pack_item(load(source, limits))
        return {"value": (kind if question == "kind" else page_count)(source, limits)}, []
    except MediaError as error:
        spent = isinstance(error.__cause__, MemoryError)
        return {"error": [error.reason, error.way_out], "spent": spent}, []
    except MemoryError:
        return {"error": ["needs more memory to hand over than there is", "shrink it"], "spent": True}, []


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
