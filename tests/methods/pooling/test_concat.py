"""Concat: the states side by side, in the order of the tokens."""

from __future__ import annotations

import torch

from items import KINDS, fresh, streamed, token_states


def test_it_is_the_states_side_by_side() -> None:
    model = fresh("qwen2_vl", tokens=3, pooling="concat")
    states_KD = token_states(model, KINDS["image"])
    expected = torch.cat(list(states_KD)) / states_KD.norm()
    found = torch.from_numpy(streamed(model, [KINDS["image"]])[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(found) == 3 * 64
