"""Longer windows for encoders with absolute positions (BERT and its like), without training (LongEmbed, 2404.12096).

Such an encoder is no backbone here; these functions take any `SentenceTransformer` that has a table of positions.

    table of W = 3 rows             p0    p1    p2
    grown by s = 2                  p0 ·· p1 ·· p2 p2    old row i at s·i, linear in between, then the last

Texts within the window are embedded as ever, whatever the policy.

Shape suffixes: N texts, P parts, T tokens, W rows of the table, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from btoks.errors import BtoksError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

POLICIES = ("chunk", "grouped", "recurrent", "interpolation")


def encode(encoder: SentenceTransformer, texts: Sequence[str], *, policy: str = "chunk") -> NDArray[np.float32]:
    """Embeddings (N, D) of texts of any length.

    chunk: parallel windows, the unit vector of the mean of theirs; grouped: ⌊i/g⌋; recurrent: i mod W;
    interpolation: the table grown to the text.

    >>> encode(SentenceTransformer("all-MiniLM-L6-v2"), ["a long text"])  # doctest: +SKIP
    """
    import numpy as np

    if policy not in POLICIES:
        raise BtoksError(f"policy {policy!r}", "there is none", did_you_mean(policy, POLICIES))
    return np.concatenate([_one(encoder, text, policy) for text in texts])


def grown(table_WD: Tensor, factor: int) -> Tensor:
    """A table of factor·W rows: old row i stands at factor·i, those between are on the line to the next.

    >>> grown(torch.tensor([[0.0], [1.0]]), 2)[:, 0].tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    place = torch.arange(factor * len(table_WD), device=table_WD.device)
    below, share = place // factor, (place % factor)[:, None] / factor
    above = (below + 1).clamp(max=len(table_WD) - 1)
    return torch.lerp(table_WD[below], table_WD[above], share.to(table_WD.dtype))


@contextmanager
def lengthened(encoder: SentenceTransformer, factor: int) -> Iterator[None]:
    """The encoder with its table grown, for the length of a `with` block; text i then stands at factor·i if it fits.

    What is trained meanwhile are the rows of the new table; short texts see only the old ones.
    """
    name, table = _table(encoder)
    offset = _offset(table)
    weight = table.weight.detach()
    more = torch.cat([weight[:offset], grown(weight[offset:], factor)])
    wide = nn.Embedding.from_pretrained(more, freeze=False, padding_idx=table.padding_idx)
    body: Any = encoder[0].model
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, wide)
    try:
        yield
    finally:
        setattr(body.get_submodule(parent), last, table)


def positions(mask_PT: Tensor, window: int, factor: int) -> Tensor:
    """Where the tokens of right-padded rows stand in a grown table: old rows alone for those within the window."""
    place_PT = (mask_PT.long().cumsum(dim=1) - 1).clamp(min=0)
    fits_P1 = mask_PT.sum(dim=1, keepdim=True) <= window
    return torch.where(fits_P1, place_PT * factor, place_PT)


@torch.no_grad()
def _one(encoder: SentenceTransformer, text: str, policy: str) -> NDArray[np.float32]:
    _, table = _table(encoder)
    offset = _offset(table)
    window = table.num_embeddings - offset
    ids_T = encoder.tokenizer(text, truncation=False, return_tensors="pt").input_ids[0].to(encoder.device)
    count = len(ids_T)
    if count <= window:
        vector_1D: NDArray[np.float32] = encoder.encode([text])
        return vector_1D
    if policy == "chunk":
        room = window - 2
        pieces = ids_T[1:-1].tensor_split(-(-(count - 2) // room))
        parts = [_run(encoder, torch.cat([ids_T[:1], piece, ids_T[-1:]]), None) for piece in pieces]
        mean_1D = torch.stack([nn.functional.normalize(each, dim=1) for each in parts]).mean(dim=0)
        return nn.functional.normalize(mean_1D, dim=1).float().cpu().numpy()
    place_T, factor = torch.arange(count, device=ids_T.device), -(-count // window)
    if policy == "interpolation":
        with lengthened(encoder, factor):
            return _run(encoder, ids_T, place_T + offset).float().cpu().numpy()
    moved_T = place_T // factor if policy == "grouped" else place_T % window
    return _run(encoder, ids_T, moved_T + offset).float().cpu().numpy()


def _run(encoder: SentenceTransformer, ids_T: Tensor, positions_T: Tensor | None) -> Tensor:
    """The embedding of one row of tokens (1, D)."""
    ids_1T = ids_T[None]
    # Without kinds of its own, BERT looks them up by position, in a table that did not grow.
    features = {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), "token_type_ids": ids_1T * 0}
    more = {} if positions_T is None else {"position_ids": positions_T[None]}
    out: Tensor = encoder({**features, **more})["sentence_embedding"]
    return out


def _table(encoder: SentenceTransformer) -> tuple[str, nn.Embedding]:
    body: Any = encoder[0].model
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return name, module
    raise BtoksError("encoder", "it has no table of positions", "for rotary models attach with pooling='longembed'")


def _offset(table: nn.Embedding) -> int:
    """Rows before the first position: some models keep one for padding."""
    return 0 if table.padding_idx is None else table.padding_idx + 1
