"""What a cached step keeps of its first pass, so that its second pass has less to run again.

    first pass    chunk ▓  chunk ▓  chunk ░  chunk ░      ▓ with its graph, kept      ░ without
    second pass   ◀ back   ◀ back   again ◀  again ◀      ◀ backward

All chunks keep what a frozen vision tower said of them, which goes first: it is the most work a byte. Graphs are kept
from the first chunk on, while they fit. Bytes: every storage that a graph saves, parameters apart; at most the limit,
and one chunk more while it runs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from sentence_transformers.base.losses.gradcache import RandContext
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import set_device_states

Key = tuple[int, int]
"""A chunk: its column and the row that it ends before."""


class Kept:
    """The graphs and vision outputs of one step, at most `limit` bytes; `last` is the step's last chunk.

    Of a model that is spread over devices nothing is kept: all of them must run the same passes.
    """

    def __init__(self, model: nn.Module, tower: nn.Module | None, limit: int, last: Key) -> None:
        self.model, self.tower, self.left = model, tower, 0 if sharded(model) else limit
        self._full = self.left <= 0
        # Devices that hold copies of the model exchange gradients in the pass that is run for it: the last one.
        self._owed = last if isinstance(model, DistributedDataParallel) else None
        self._graphs: dict[Key, tuple[Tensor, int]] = {}
        self._seen: dict[Key, list[tuple[Any, RandContext]]] = {}
        self._weights = set() if self._full else {each.untyped_storage().data_ptr() for each in model.parameters()}

    def run(self, key: Key, represent: Callable[[], Tensor]) -> Tensor:
        """A chunk's representation in the first pass, its graph kept if it fits."""
        if self._full or key == self._owed:
            with torch.no_grad():
                return represent()
        sizes: dict[int, int] = {}

        def note(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return saved.detach()  # an output that held itself would never be freed

        alone = self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved), alone:
            out = represent()
        size = sum(sizes[each] for each in sizes.keys() - self._weights)
        if not out.requires_grad or size > self.left:
            self._full = out.requires_grad
            return out.detach()
        self._graphs[key] = out, size
        self.left -= size
        return out

    def take(self, key: Key) -> Tensor | None:
        """The representation of a chunk with its graph, once, if it was kept."""
        return self._graphs.pop(key, (None, 0))[0]

    @contextmanager
    def seeing(self, key: Key, *, first: bool) -> Iterator[None]:
        """Keep what the frozen tower says in the first pass of a chunk, and say it again in the second."""
        if self.tower is None or (first and self.left <= 0) or (not first and key not in self._seen):
            yield
            return
        seen = [] if first else self._seen.pop(key)
        told, forward = iter(tuple(seen)), self.tower.forward

        def look(*args: Any, **kwargs: Any) -> Any:
            if first:
                out = forward(*args, **kwargs)
                seen.append((_copy(out), RandContext(*_tensors(out))))
                return out
            out, state = next(told)
            _draw_from(state)
            return out

        # A hook cannot leave a module's own pass out: its `forward` gives way for the time of this one.
        before = self.tower.__dict__.get("forward")
        self.tower.__dict__["forward"] = look
        try:
            yield
        finally:
            del self.tower.__dict__["forward"]
            if before is not None:
                self.tower.__dict__["forward"] = before
        if first:
            self._keep(key, seen)

    def _keep(self, key: Key, seen: list[tuple[Any, RandContext]]) -> None:
        size = sum(each.untyped_storage().nbytes() for out, _ in seen for each in _tensors(out))
        while size > self.left and self._graphs:
            self._full = True
            self.left += self._graphs.popitem()[1][1]
        if seen and size <= self.left:
            self._seen[key] = seen
            self.left -= size


@dataclass(frozen=True)
class Step:
    """What a column needs in both passes of a step: what is kept, its number, its chunks."""

    kept: Kept
    column: int
    ranges: list[tuple[int, int]]


def sharded(model: nn.Module) -> bool:
    """Whether parameters are spread over devices."""
    return any(hasattr(each, "device_mesh") for each in model.parameters())


def frozen_tower(body: Any) -> nn.Module | None:
    """The part of a model that looks at pictures, if there is one and nothing of it trains."""
    tower: Any = body.get_encoder("image") if hasattr(body, "get_encoder") else body
    trains = tower is body or any(each.requires_grad for each in tower.parameters())
    return None if trains else tower


def room(device: torch.device) -> int:
    """Half of the bytes that are free, on a CPU shared among the processes of the run."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)) // 2
    if device.type == "cpu":
        machine: Any = psutil
        return int(machine.virtual_memory().available) // (2 * int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return 0


def _copy(out: Any) -> Any:
    """What a model says, safe from those who change it: they may replace its parts."""
    return out if isinstance(out, Tensor) else copy.copy(out)


def _tensors(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Mapping | list | tuple):
        for each in out.values() if isinstance(out, Mapping) else out:
            yield from _tensors(each)


def _draw_from(state: RandContext) -> None:
    """Go on as if the tower had drawn its random numbers."""
    torch.set_rng_state(state.fwd_cpu_state)
    if state.fwd_mps_state is not None:
        torch.mps.set_rng_state(state.fwd_mps_state)
    set_device_states(state.fwd_gpu_devices, state.fwd_gpu_states)
