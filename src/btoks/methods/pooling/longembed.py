"""LongEmbed: position policies that let a model read past its window, without training (2404.12096).

A row of n ≤ W tokens is embedded as ever, to the bit, whatever the policy. For encoders with absolute positions, which
are no backbones here, see `btoks.absolute`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from btoks import prompts
from btoks.errors import BtoksError, did_you_mean
from btoks.methods import method
from btoks.methods.pooling import _parts, _patches, _positions, _selfextend

if TYPE_CHECKING:
    from btoks.patched import Patched

POLICIES = ("ntk", "selfextend", "grouped", "recurrent", "interpolation", "chunk")


@method(
    title="LongEmbed — training-free windows",
    paper="2404.12096",
    system="A4",
    stage="pool",
    identity={},
    cost="none; beyond the window chunk: n/W rows, selfextend: 3 projections, 2 scores",
)
@dataclass(frozen=True)
class LongEmbed(_patches.Patch):
    """A `policy` for inputs of more than `window` tokens, by default those that the model's configuration names.

    ntk: a slower rotary base; selfextend: own positions within `near` tokens (by default W/2), those of groups beyond;
    grouped: ⌊i/g⌋; recurrent: i mod W; interpolation: i·W/n; chunk: the mean of the unit vectors of chunks.
    """

    policy: str = "ntk"
    window: int | None = None
    near: int | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise BtoksError(f"policy={self.policy!r}", "there is none", did_you_mean(self.policy, POLICIES))
        if self.window is not None and self.window < 2:
            raise BtoksError(f"window={self.window}", "not a number of tokens", "pass those the model was trained on")
        if self.near is not None and (self.policy != "selfextend" or self.near < 1):
            raise BtoksError(f"near={self.near}", f"policy {self.policy!r} has no use for it", "leave it out")

    @property
    def parts_rows(self) -> bool:  # type: ignore[override]
        """With chunks."""
        return self.policy == "chunk"

    def split(self, features: dict[str, Any], backbone: Patched) -> dict[str, Any]:
        """A part a chunk for rows that do not fit, each with the row's beginning-of-sequence and bottleneck tokens."""
        decoder = backbone.__dict__["generator"].get_decoder()
        window = self._window(decoder)
        if not self.parts_rows or not (features["attention_mask"].sum(dim=1) > window).any():
            return features
        tokens, first = int(backbone.config.btoks["tokens"]), prompts.tokenizer_of(backbone.processor).bos_token_id
        parts = [_chunks(row_T, window, tokens + 1, first) for row_T in _parts.rows(features)]
        return _parts.parted(features, parts, backbone)

    def patching(self, run: _patches.Run) -> AbstractContextManager[None]:
        """Other positions, another base or another attention for the rows that do not fit."""
        window = self._window(run.decoder)
        if self.policy == "chunk" or not (run.lengths > window).any():
            return super().patching(run)
        move = _positions.moves(self.policy, window)
        if move is not None:
            return _moved(run, window, move)
        if run.remembers:
            reason = f"text cannot be read back at the positions of policy {self.policy!r}"
            raise BtoksError("memory of a long input", reason, "choose policy 'interpolation', or cut the input")
        if self.policy == "ntk":
            return _stretched(run, window)
        near = self.near or window // 2
        if near >= window:
            raise BtoksError(f"near={near}", f"the window is {window}", "choose a smaller one")
        return _selfextend.extended(run, window, near)

    def _window(self, decoder: Any) -> int:
        return int(self.window or decoder.config.max_position_embeddings)


@contextmanager
def _moved(run: _patches.Run, window: int, move: _positions.Move) -> Iterator[None]:
    rotary = run.decoder.get_submodule("rotary_emb")

    def placed(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids: Tensor = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        ids = _positions.Placed.of(ids, run.mask_BT).moved(window, move)
        if "position_ids" in kwargs:
            return args, {**kwargs, "position_ids": ids}
        return (args[0], ids, *args[2:]), kwargs

    # In front of other hooks: a memory is to note where its text goes on from.
    with _patches.hooked((rotary.register_forward_pre_hook, placed), prepend=True, with_kwargs=True):
        yield


@contextmanager
def _stretched(run: _patches.Run, window: int) -> Iterator[None]:
    rotary = run.decoder.get_submodule("rotary_emb")

    def slowed(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        ids: Tensor = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        factor_B = _positions.Placed.of(ids, run.mask_BT).length_B1[:, 0] / window
        sides = [side.expand(len(factor_B), -1, -1).clone() for side in out]
        for factor in sorted(set(factor_B[factor_B > 1].tolist())):
            other = _positions.stretched(rotary, factor).forward(*args, **kwargs)
            for side, slow in zip(sides, other, strict=True):
                rows_B = factor_B == factor
                side[rows_B] = slow.expand(len(factor_B), -1, -1)[rows_B]
        return tuple(sides)

    with _patches.hooked((rotary.register_forward_hook, slowed), with_kwargs=True):
        yield


def _chunks(row_T: Tensor, window: int, tail: int, first: int | None) -> list[Tensor]:
    """A row in as few parts of about equal length as the window allows, each between the row's own ends."""
    if len(row_T) <= window:
        return [row_T]
    head = 1 if first is not None and int(row_T[0]) == first else 0
    room = window - head - tail
    if room < 1:
        raise BtoksError(f"window={window}", "the prompt's own tokens fill it", "choose a larger one")
    body_T = row_T[head : len(row_T) - tail]
    pieces = body_T.tensor_split(-(-len(body_T) // room))
    return [torch.cat([row_T[:head], piece, row_T[len(row_T) - tail :]]) for piece in pieces]
