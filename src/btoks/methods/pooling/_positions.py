"""Where the tokens of a row stand that is longer than the window, and the rotary embedding that is told so.

    window W = 4, n = 8 tokens     0 1 2 3 4 5 6 7
    grouped, g = 2                 0 0 1 1 2 2 3 3
    recurrent                      0 1 2 3 0 1 2 3
    interpolation                  0 .5 1 1.5 2 2.5 3 3.5

Rows within the window keep their positions, to the bit. Positions count from a row's first token, on every rotary axis;
the length is what they span, which for pictures with positions of their own is less than their tokens.

Shape suffixes: A rotary axes, B batch, T tokens of a padded row, F frequencies.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Move = Callable[[Tensor, Tensor], Tensor]
"""(place from the row's first token (…, B, T), length of each row (B, 1)) → new place."""


def moves(policy: str, window: int) -> Move | None:
    """How a policy moves the tokens of long rows; None where it leaves them in place."""
    found: dict[str, Move] = {
        "grouped": lambda place, length_B1: place // (length_B1 / window).ceil(),
        "recurrent": lambda place, length_B1: place % window,
        "interpolation": lambda place, length_B1: place * (window / length_B1),
    }
    return found.get(policy)


@dataclass(frozen=True)
class Placed:
    """What the rotary embedding is given for a batch: places from each row's first token, and the rows' lengths."""

    ids: Tensor
    first_B1: Tensor
    length_B1: Tensor

    @classmethod
    def of(cls, ids: Tensor, mask_BT: Tensor) -> Placed:
        """From position ids of one row for all, a row each, or an axis and row each."""
        ids = ids.expand(*ids.shape[:-2], *mask_BT.shape).float()
        shown = ids.reshape(-1, *mask_BT.shape)
        inside_BT = mask_BT.bool()
        first_B = shown.masked_fill(~inside_BT, torch.inf).amin(dim=(0, 2))
        last_B = shown.masked_fill(~inside_BT, -torch.inf).amax(dim=(0, 2))
        return cls(ids, first_B[:, None], (last_B - first_B + 1)[:, None])

    def long(self, window: int) -> Tensor:
        """The rows that do not fit (B, 1)."""
        return self.length_B1 > window

    def moved(self, window: int, move: Move) -> Tensor:
        """The ids, those of long rows moved."""
        place = (self.ids - self.first_B1).clamp(min=0)
        return torch.where(self.long(window), move(place, self.length_B1), self.ids)


def stretched(rotary: nn.Module, factor: float) -> Any:
    """The rotary embedding with its base raised so that its slowest frequency is `factor` times slower (NTK-aware).

    The base times factor^(2F / (2F − 2)) divides frequency i by factor^(i / (F − 1)): the first is kept, the last
    interpolated.
    """
    other = copy.copy(rotary)
    other._buffers = dict(rotary._buffers)
    for name, freq_F in rotary._buffers.items():
        if freq_F is not None and name.endswith("inv_freq"):
            steps_F = torch.arange(len(freq_F), device=freq_F.device) / max(len(freq_F) - 1, 1)
            other._buffers[name] = freq_F * factor**-steps_F
    return other
