"""Work shared over the processes that torchrun started; alone, everything is ours."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_PATIENCE = dt.timedelta(hours=12)
"""How long one process may wait for the slowest: a side of a large data set."""


def rank() -> int:
    """This process among all."""
    return _group().get_rank() if _group() is not None else 0


def count() -> int:
    """How many processes there are."""
    return int(_group().get_world_size()) if _group() is not None else 1


def share(work: Iterable[T]) -> list[T]:
    """Every n-th piece, from the rank on.

    >>> share("abc")
    ['a', 'b', 'c']
    """
    group = _group()
    return list(work)[group.get_rank() :: group.get_world_size()] if group is not None else list(work)


def gathered(mine: Mapping[int, T]) -> dict[int, T]:
    """What all processes have found, in the order of its keys."""
    group = _group()
    if group is None:
        return dict(mine)
    found: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(found, dict(mine))
    return dict(sorted(pair for each in found for pair in each.items()))


@contextmanager
def first() -> Iterator[None]:
    """The first process goes ahead alone (it downloads and unpacks), the others follow when it is done."""
    group = _group()
    if group is not None and group.get_rank() != 0:
        group.barrier()
    try:
        yield
    finally:
        if group is not None and group.get_rank() == 0:
            group.barrier()


@contextmanager
def joined() -> Iterator[str | None]:
    """Take part in what torchrun has started; gives this process's device, None where there is no choice."""
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    finally:
        torch.distributed.destroy_process_group()


def _group() -> Any:
    import torch.distributed as group

    return group if group.is_available() and group.is_initialized() and group.get_world_size() > 1 else None
