"""Key-value caches of a condensed pass: one that keeps some positions, one that is read and never written.

Both give the same answer however often a layer runs, so that gradient checkpointing may run it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache


class Taken(DynamicCache):
    """An empty cache that keeps the keys and values at some positions and hands on all of them.

    It never holds more than those positions; with `at_BK=None` it keeps every one.
    """

    def __init__(self, at_BK: Tensor | None) -> None:
        super().__init__()
        self.at_BK = at_BK
        self.kept_keys: list[Tensor] = []
        self.kept_values: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep a layer's keys and values the first time, and hand them on."""
        taken = self._at(key_states), self._at(value_states)  # also when run again: the same operations are owed
        if layer_idx == len(self.kept_keys):
            self.kept_keys.append(taken[0])
            self.kept_values.append(taken[1])
        return key_states, value_states

    def _at(self, states: Tensor) -> Tensor:
        if self.at_BK is None:
            return states
        return states.gather(2, self.at_BK[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))


class Prefix(DynamicCache):
    """Keys and values in front of what runs, read and never written."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The layer's keys and values behind the held ones."""
        held: Any = self.layers[layer_idx]
        return torch.cat([held.keys, key_states], dim=2), torch.cat([held.values, value_states], dim=2)


@contextmanager
def positions(decoder: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    """Note the position ids that the decoder's rotary embedding is given."""

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["position_ids"] if "position_ids" in kwargs else args[1])

    handle = decoder.get_submodule("rotary_emb").register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def caching(decoder: nn.Module) -> Iterator[None]:
    """Let checkpointed layers keep their cache: ours stay the same when the backward pass runs a layer again."""
    layers = [layer for layer in decoder.modules() if getattr(layer, "_can_checkpoint_with_cache", True) is False]
    for layer in layers:
        layer.__dict__["_can_checkpoint_with_cache"] = True
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["_can_checkpoint_with_cache"]
