"""Exact equality of two items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from btoks.media import Item


def assert_same(one: Item, other: Item) -> None:
    assert one.keys() == other.keys()
    assert one.get("text") == other.get("text")
    if "image" in one:
        assert one["image"].mode == other["image"].mode == "RGB"
        np.testing.assert_array_equal(np.asarray(one["image"]), np.asarray(other["image"]))
    if "video" in one:
        assert one["video"]["video_metadata"] == other["video"]["video_metadata"]
        assert one["video"]["array"].dtype == other["video"]["array"].dtype == np.uint8
        np.testing.assert_array_equal(one["video"]["array"], other["video"]["array"])


def times_of(item: Item) -> list[float]:
    """When the kept frames are shown, as a processor computes it."""
    metadata = item["video"]["video_metadata"]
    return [index / metadata["fps"] for index in metadata["frames_indices"]]
