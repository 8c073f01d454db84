"""False negatives: documents of a batch that equal a row's positive, told by content hashes.

Shape suffixes: B batch, C rows of a chunk, N documents of all columns and devices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from btoks.errors import BtoksError


def hashes_of(labels: Tensor | None) -> list[Tensor]:
    """Content hashes by column: the positives' first."""
    if labels is None:
        return []
    if labels.is_floating_point():
        raise BtoksError("labels", "not integers", "pass content hashes of the documents, or no label column")
    return list(labels.unbind(dim=1)) if labels.ndim > 1 else [labels]


def duplicates(hashes: list[Tensor], own_C: Tensor, documents: int) -> Tensor:
    """Which documents equal a row's positive without being it (C, N)."""
    known_N = torch.cat(hashes)
    same_CN = torch.zeros(len(own_C), documents, dtype=torch.bool, device=known_N.device)
    same_CN[:, : len(known_N)] = hashes[0][own_C, None] == known_N
    same_CN[torch.arange(len(own_C), device=own_C.device), own_C] = False
    return same_CN
