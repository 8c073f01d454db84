"""Chunks of a preprocessed batch, visuals included: its rows sorted by length, and cut where padding would grow.

sentence-transformers cuts what has a row a sample. What has more or fewer (pictures' patches, tiles, frames, grids) is
taken apart here into the samples' own parts, which are views, and put together again chunk by chunk.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.losses.gradcache import _create_minibatch
from torch import Tensor

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KINDS = {
    "image": ("pixel_values", "image_grid_thw", "num_images_per_sample", ("image_sizes", "image_position_ids")),
    "video": ("pixel_values_videos", "video_grid_thw", "num_videos_per_sample", ("second_per_grid_ts",)),
}
_BY_SAMPLE = ("pixel_values", "pixel_attention_mask")
_PARTS = "visual_parts"


_ALIKE = 1.4
"""Inputs whose lengths differ by less than this stand together by the length of their targets."""
_SHARE, _PLACES = 0.1, 64
"""A chunk may hold this share of padding; below so many places of it another pass costs more."""


def lengths(features: Mapping[str, Any], target: Tensor | None) -> Tensor:
    """Tokens of each row's input, and of its target up to the last that is supervised (B, 2)."""
    tokens_B: Tensor = features["attention_mask"].sum(dim=1)
    said_B = torch.zeros_like(tokens_B)
    if target is not None:
        supervised_BT = target[:, 0, 1]
        said_B = (supervised_BT * torch.arange(1, supervised_BT.shape[1] + 1, device=said_B.device)).amax(dim=1)
    return torch.stack([tokens_B, said_B], dim=1)


def longest_first(lengths_B2: Tensor) -> Tensor:
    """The order of a batch's rows by the lengths of inputs and targets, alike rows as they stand (B,)."""
    by_target_B = lengths_B2[:, 1].argsort(descending=True, stable=True)
    kind_B = lengths_B2[by_target_B, 0].double().log().div(math.log(_ALIKE)).floor()
    return by_target_B[kind_B.argsort(descending=True, stable=True)]


def cut(lengths_B2: Tensor, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Chunks cut into smaller ones wherever a row would bring too much padding along.

    >>> cut(torch.tensor([[500, 0], [490, 0], [100, 0]]), [(0, 3)])
    [(0, 2), (2, 3)]
    """
    rows, out = lengths_B2.tolist(), []
    for begin, end in ranges:
        first, widest, used = begin, [0, 0], 0
        for place in range(begin, end):
            wider = [max(pair) for pair in zip(widest, rows[place], strict=True)]
            places = (place + 1 - first) * sum(wider)
            used += sum(rows[place])
            if place > first and places - used > max(_SHARE * places, _PLACES):
                out.append((first, place))
                first, wider, used = place, rows[place], sum(rows[place])
            widest = wider
        out.append((first, end))
    return out


def arranged(features: Mapping[str, Any], order_B: Tensor, config: Any) -> dict[str, Any]:
    """A batch in another order, ready for `chunk`; `config` is the model's."""
    parts = _parts(features, config)
    samples = len(features["input_ids"])
    places = order_B.tolist()
    out = {key: value for key, value in features.items() if key not in parts}
    for key, value in out.items():
        if isinstance(value, Tensor) and value.ndim and len(value) == samples:
            out[key] = value[order_B]
    return {**out, _PARTS: {key: [blocks[place] for place in places] for key, blocks in parts.items()}}


def chunk(batch: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    """The rows from `begin` to `end` of an arranged batch, with their pictures and clips."""
    rest = {key: value for key, value in batch.items() if key != _PARTS}
    out: dict[str, Any] = _create_minibatch(rest, begin, end)
    for key, blocks in batch[_PARTS].items():
        held = torch.cat(blocks[begin:end])
        if len(held):
            out[key] = held
    if _BY_SAMPLE[1] in out and not out["num_images_per_sample"].any():
        for key in _BY_SAMPLE:  # rows of padding only: the model would look for the picture's tokens
            del out[key]
    if "batch_num_images" in batch:  # counts the images of those samples that have some
        counts_C = out["num_images_per_sample"]
        out["batch_num_images"] = counts_C[counts_C > 0]
    return out


def _parts(features: Mapping[str, Any], config: Any) -> dict[str, list[Tensor]]:
    """The visual tensors taken apart: each sample's own rows of them."""
    rows: dict[str, Tensor] = {}
    for kind, (pixels, grid, count, others) in _KINDS.items():
        if pixels not in features or _BY_SAMPLE[1] in features:
            continue
        counts_B: Tensor | None = features.get(count)
        if grid in features:
            rows[grid] = _grids(features, grid, counts_B)
            rows[pixels] = _sums(features[grid].prod(dim=1), rows[grid])
        else:
            token = getattr(config, f"{kind}_token_id", getattr(config, f"{kind}_token_index", None))
            rows[pixels] = _rows(features, pixels, counts_B, token)
        for key in others:
            if counts_B is not None and key in features and len(features[key]) == int(counts_B.sum()):
                rows[key] = counts_B
    return {key: list(torch.as_tensor(features[key]).split(rows_B.tolist())) for key, rows_B in rows.items()}


def _grids(features: Mapping[str, Any], grid: str, counts_B: Tensor | None) -> Tensor:
    """How many grids belong to each sample (B,)."""
    held, samples = len(features[grid]), len(features["input_ids"])
    if counts_B is None and held == samples:
        return torch.ones(samples, dtype=torch.long)
    if counts_B is None or int(counts_B.sum()) != held:
        raise _uncut(grid, held)
    return counts_B


def _sums(each_N: Tensor, counts_B: Tensor) -> Tensor:
    return torch.stack([part.sum() for part in each_N.split(counts_B.tolist())])


def _rows(features: Mapping[str, Any], key: str, counts_B: Tensor | None, token: int | None) -> Tensor:
    """How many rows of a tensor without grids belong to each sample (B,): its images, or its tiles by their tokens."""
    held = len(features[key])
    if counts_B is not None and int(counts_B.sum()) == held:
        return counts_B
    tokens_B: Tensor = (features["input_ids"] == token).sum(dim=1)
    each, rest = divmod(int(tokens_B.sum()), held)
    if rest or not each or (tokens_B % each).any():
        raise _uncut(key, held)
    return tokens_B // each


def _uncut(key: str, held: int) -> BtoksError:
    return BtoksError(f"{key} of {held} rows", "cannot be cut into chunks", "use a chunk as large as the batch")
