"""Rows sorted by length keep their own pictures, and chunks of them hold little padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from btoks.training.chunks import arranged, chunk, cut, longest_first
from items import KINDS, attached, features, picture

ITEMS = [
    KINDS["short text"],
    KINDS["image"],
    {"text": "fox " * 20},
    KINDS["two images"],
    {"image": picture(8, 120, 50), "text": "a bus"},
]


@pytest.mark.parametrize("name", sorted(tiny.VISION))
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_chunk_of_sorted_rows_is_those_rows(name: str, width: int) -> None:
    model = attached(name)
    batch = features(model, *ITEMS)
    order = batch["attention_mask"].sum(dim=1).argsort(descending=True)
    sorted_ = arranged(batch, order, model[0].config)
    for begin in range(0, len(ITEMS), width):
        end = min(begin + width, len(ITEMS))
        alone = features(model, *[ITEMS[place] for place in order.tolist()[begin:end]])
        held = chunk(sorted_, begin, end)
        assert torch.equal(held["input_ids"], alone["input_ids"])
        with torch.no_grad():
            vectors = [model(dict(each))["sentence_embedding"] for each in (held, alone)]
        torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=1e-5)


def test_a_clip_stays_with_its_rate() -> None:
    """Clips of different rates in one batch: each is timed by its own."""
    model = attached("qwen2_5_vl")
    slow, fast = ({"text": "who", "video": _at(fps)} for fps in (1.0, 4.0))
    batch = features(model, KINDS["short text"], slow, KINDS["image"], fast)
    assert len(set(batch["second_per_grid_ts"].tolist())) == 2
    held = chunk(arranged(batch, torch.tensor([3, 0, 2, 1]), model[0].config), 0, 1)
    assert held["second_per_grid_ts"].tolist() == features(model, fast)["second_per_grid_ts"].tolist()


def test_long_rows_come_first_and_alike_ones_by_their_targets() -> None:
    lengths = torch.tensor([[10, 3], [100, 0], [110, 7], [105, 9], [10, 3], [1, 50]])
    assert longest_first(lengths).tolist() == [3, 2, 1, 0, 4, 5]


def test_chunks_hold_little_padding() -> None:
    """Lengths over three orders of magnitude: at most a tenth of the places, or 64 a chunk, and none too large."""
    lengths = torch.tensor(np.random.default_rng(0).lognormal((5, 3), 1.2, (200, 2)).clip(1, 4000)).long()
    rows = lengths[longest_first(lengths)]
    ranges = cut(rows, [(begin, begin + 8) for begin in range(0, 200, 8)])
    assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == 200
    for begin, end in ranges:
        places = (end - begin) * int(rows[begin:end].amax(dim=0).sum())
        assert places - int(rows[begin:end].sum()) <= max(places / 10, 64)
        assert begin // 8 == (end - 1) // 8


def _at(fps: float) -> dict[str, object]:
    from items import clip

    found = clip(4)
    return {**found, "video_metadata": {**found["video_metadata"], "fps": fps, "duration": 4 / fps}}
