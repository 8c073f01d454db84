"""LastInput: the state right before the bottleneck tokens, hence the embedding of the same weights without any."""

from __future__ import annotations

import pytest

from items import KINDS, attached, fresh, near, padded, streamed

ITEMS = list(KINDS.values())


@pytest.mark.parametrize("side", ["left", "right"])
def test_it_is_the_last_token_pooling_of_the_same_weights_without_bottleneck_tokens(side: str) -> None:
    model = fresh("qwen3_vl", pooling="last_input")
    with padded(model, side):
        near(model.encode(ITEMS), streamed(attached("qwen3_vl", tokens=0), ITEMS))
