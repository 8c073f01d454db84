"""Last: the state of the last token, which is the last bottleneck token or, without any, the end of the prompt."""

from __future__ import annotations

import pytest
import torch

from items import KINDS, fresh, last_states, padded


@pytest.mark.parametrize("tokens", [0, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_it_is_the_last_state(tokens: int, side: str) -> None:
    model = fresh("qwen3_vl", tokens=tokens, pooling="last")
    items = [KINDS["short text"], KINDS["image + text"], KINDS["text"]]
    with padded(model, side):
        found = torch.from_numpy(model.encode(items))
    expected = torch.stack([torch.nn.functional.normalize(last_states(model, item)[-1], dim=0) for item in items])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
