"""Weighted: token i of K counts 1 + slope·i."""

from __future__ import annotations

import pytest
import torch

from items import KINDS, fresh, streamed, token_states


@pytest.mark.parametrize(
    ("slope", "weights"), [(1.0, [1, 2, 3]), (0.0, [1, 1, 1]), (0.5, [1, 1.5, 2]), (-0.5, [1, 0.5, 0])]
)
def test_it_is_the_weighted_mean(slope: float, weights: list[float]) -> None:
    model = fresh("qwen2_vl", tokens=3, pooling={"name": "weighted", "slope": slope})
    states_KD = token_states(model, KINDS["image"])
    mean_D = sum(weight * state_D for weight, state_D in zip(weights, states_KD, strict=True))
    expected_D = torch.nn.functional.normalize(mean_D, dim=0)
    found_D = torch.from_numpy(streamed(model, [KINDS["image"]])[0])
    torch.testing.assert_close(found_D, expected_D, rtol=0, atol=1e-6)
