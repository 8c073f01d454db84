"""Mean: the published pooling, of stock modules only."""

from __future__ import annotations

import pytest
import torch

from items import KINDS, fresh, streamed, token_states


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_it_is_the_mean_of_the_states(tokens: int) -> None:
    model = fresh("qwen2_vl", tokens=tokens)
    states_KD = token_states(model, KINDS["image + text"])
    assert len(states_KD) == tokens
    expected_D = torch.nn.functional.normalize(states_KD.sum(0) / tokens, dim=0)
    found_D = torch.from_numpy(streamed(model, [KINDS["image + text"]])[0])
    torch.testing.assert_close(found_D, expected_D, rtol=0, atol=1e-6)
    assert {type(module).__module__.partition(".")[0] for module in model} == {"sentence_transformers"}
