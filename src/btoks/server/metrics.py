"""Numbers for Prometheus: requests, times, batches. Workers of one server add theirs up in a folder they share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder; it has to be set before this module is imported."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one application; `waiting` and `ready` are asked for when they are read."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("btoks_requests", "Requests answered.", labels, registry=registry)
        self.seconds = Histogram(
            "btoks_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram("btoks_batch_inputs", "Inputs of a batch.", buckets=_SIZES, registry=registry)
        self.cancelled = Counter("btoks_cancelled", "Requests whose client went away.", registry=registry)
        self._waiting = Gauge(
            "btoks_inputs_waiting", "Inputs let in and not finished.", registry=registry, multiprocess_mode="livesum"
        )
        self._ready = Gauge("btoks_ready", "Warm workers.", registry=registry, multiprocess_mode="livesum")
        self._registry = registry

    def text(self, waiting: Callable[[], int], *, ready: bool) -> bytes:
        """All of them in the text format."""
        self._waiting.set(waiting())
        self._ready.set(ready)
        if not os.environ.get(SHARED):
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
