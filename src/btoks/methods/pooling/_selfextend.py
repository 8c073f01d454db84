"""SelfExtend: near tokens at their own distance, far ones at the distance of their groups, in one attention.

    distance < w            as ever
    distance ≥ w            positions ⌊i/g⌋ + w − ⌊w/g⌋ of the query and ⌊j/g⌋ of the key

How a model turns positions into keys and queries is its own affair: its attention is asked for them with each of the
three embeddings, and the kernel of the last call joins the scores. Memory stays at a block of queries times the keys.

Shape suffixes: B batch, L long rows of it, H heads, T tokens, Q queries of a block, W width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from btoks.errors import BtoksError
from btoks.methods.pooling import _attention, _patches
from btoks.methods.pooling._positions import Placed

_BLOCK = 256  # queries of long rows that are scored at a time
Rotation = tuple[Tensor, Tensor]


@dataclass
class _State:
    """What stands between the hooks of one pass: the far rotations of each near one, and the far queries and keys."""

    near: int
    rows_B: Tensor | None = None
    far: list[tuple[Tensor, Rotation, Rotation]] = field(default_factory=list)
    asked: list[tuple[Tensor, Tensor]] | None = None
    held: tuple[Tensor, Tensor] | None = None


@contextmanager
def extended(run: _patches.Run, window: int, near: int) -> Iterator[None]:
    """Let long rows be attended to so for the length of one pass."""
    state = _State(near)
    rotary = run.decoder.get_submodule("rotary_emb")
    layers = [each for each in run.decoder.layers.modules() if hasattr(each, "layer_idx") and hasattr(each, "scaling")]

    def rotated(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Rotation) -> None:
        given = _bound(args, kwargs)
        placed = Placed.of(given.pop("position_ids"), run.mask_BT)
        state.rows_B = placed.long(window)[:, 0]
        if state.rows_B.any():
            group_B1 = ((placed.length_B1 - near) / (window - near)).ceil().clamp(min=1)
            shift_B1 = near - near // group_B1
            keys = placed.moved(window, lambda place, _: place // group_B1)
            queries = placed.moved(window, lambda place, _: place // group_B1 + shift_B1)
            far = (module.forward(position_ids=ids, **given) for ids in (queries, keys))
            state.far.append((out[0], *far))

    def asked(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        near_rotation = kwargs.get("position_embeddings")
        found = next((far for cos, *far in state.far if near_rotation and cos is near_rotation[0]), None)
        if found is None:
            return
        state.asked = []
        for rotation in found:
            module.forward(*args, **{**kwargs, "position_embeddings": rotation, "past_key_values": None})
        (query, _), (_, key) = state.asked
        state.asked, state.held = None, (query, key)

    with ExitStack() as stack:
        stack.enter_context(_patches.hooked((rotary.register_forward_hook, rotated), with_kwargs=True))
        asks = [(layer.register_forward_pre_hook, asked) for layer in layers]
        stack.enter_context(_patches.hooked(*asks, with_kwargs=True))
        stack.enter_context(_attention.changed(run.decoder, lambda kernel: _joining(kernel, state), inner=True))
        yield


def _bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a rotary embedding by name: states, positions, and for some the kind of layer."""
    return dict(zip(("x", "position_ids", "layer_type"), args, strict=False)) | kwargs


def _joining(kernel: _attention.Kernel, state: _State) -> _attention.Kernel:
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        if state.asked is not None:
            state.asked.append((query, key))
            return torch.zeros_like(query).transpose(1, 2), None
        out, weights = kernel(module, query, key, value, mask, **options)
        if state.held is None or state.rows_B is None:
            return out, weights
        for name in ("softcap", "s_aux"):
            if options.get(name) is not None:
                raise BtoksError("selfextend", f"the model's attention has {name}", "choose another policy")
        far, state.held = state.held, None
        rows_L = state.rows_B.nonzero()[:, 0]
        scale = float(options.get("scaling") or query.shape[-1] ** -0.5)
        joined = _Joined(
            (query[rows_L] * scale, far[0][rows_L] * scale),
            (key[rows_L], far[1][rows_L]),
            value[rows_L],
            None if mask is None else mask.expand(len(query), -1, -1, -1)[rows_L],
            state.near,
        )
        return out.index_copy(0, rows_L, joined.attended()), weights

    return attend


@dataclass(frozen=True)
class _Joined:
    """The attention of long rows: queries and keys of near pairs and of far pairs, each (L, H, T, W)."""

    queries: tuple[Tensor, Tensor]
    keys: tuple[Tensor, Tensor]
    value: Tensor
    mask: Tensor | None
    near: int

    def attended(self) -> Tensor:
        """What the rows see (L, T, H, W)."""
        shared = self.queries[0].shape[1] // self.keys[0].shape[1]
        keys = [each.repeat_interleave(shared, dim=1).transpose(2, 3) for each in self.keys]
        value = self.value.repeat_interleave(shared, dim=1)
        place_T = torch.arange(value.shape[2], device=value.device)
        blocks = []
        for at_Q in place_T.split(_BLOCK):
            distance_QT = at_Q[:, None] - place_T
            near, far = (query[:, :, at_Q] @ key for query, key in zip(self.queries, keys, strict=True))
            scores = self._seen(torch.where(distance_QT < self.near, near, far), at_Q, distance_QT)
            blocks.append(torch.softmax(scores.float(), dim=-1).to(value.dtype) @ value)
        return torch.cat(blocks, dim=2).transpose(1, 2)

    def _seen(self, scores: Tensor, at_Q: Tensor, distance_QT: Tensor) -> Tensor:
        """Scores with what may not be seen taken out; without a mask that is what comes later."""
        hidden = torch.finfo(scores.dtype).min
        if self.mask is None:
            return scores.masked_fill(distance_QT < 0, hidden)
        mask = self.mask[:, :, at_Q]
        return scores.masked_fill(~mask, hidden) if mask.dtype == torch.bool else scores + mask
