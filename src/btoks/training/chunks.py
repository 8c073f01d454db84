"""Chunks of a preprocessed batch, visuals included.

sentence-transformers cuts every tensor by rows or by Qwen's grids; tiles and clips without a grid are cut here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.base.losses.gradcache import _create_minibatch

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_GRIDS = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}
_COUNTS = {"pixel_values": "num_images_per_sample", "pixel_values_videos": "num_videos_per_sample"}
_BY_SAMPLE = ("pixel_values", "pixel_attention_mask")


def chunk(features: Mapping[str, Any], begin: int, end: int, image_token: int | None) -> dict[str, Any]:
    """The rows from `begin` to `end` of a batch, with their pictures and clips."""
    out: dict[str, Any] = _create_minibatch(dict(features), begin, end)
    for key, grid in _GRIDS.items():
        if key in features and grid not in features and _BY_SAMPLE[1] not in features:
            rows_B = _rows(features, key, image_token)
            first, last = int(rows_B[:begin].sum()), int(rows_B[:end].sum())
            out[key] = features[key][first:last]
            if first == last:
                del out[key]
    if _BY_SAMPLE[1] in out and not out["num_images_per_sample"].any():
        for key in _BY_SAMPLE:  # rows of padding only: the model would look for the picture's tokens
            del out[key]
    if "batch_num_images" in features:  # counts the images of those samples that have some
        counts_C = out["num_images_per_sample"]
        out["batch_num_images"] = counts_C[counts_C > 0]
    return out


def _rows(features: Mapping[str, Any], key: str, image_token: int | None) -> Tensor:
    """How many rows of a visual tensor belong to each sample (B,): its images, or its tiles by their tokens."""
    held = features[key].shape[0]
    counts_B: Tensor | None = features.get(_COUNTS[key])
    if counts_B is not None and int(counts_B.sum()) == held:
        return counts_B
    tokens_B: Tensor = (features["input_ids"] == image_token).sum(dim=1)
    each, rest = divmod(int(tokens_B.sum()), held)
    if rest or not each or (tokens_B % each).any():
        raise BtoksError(f"{key} of {held} rows", "cannot be cut into chunks", "use a chunk as large as the batch")
    rows_B: Tensor = tokens_B // each
    return rows_B
