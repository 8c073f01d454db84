"""Attention: softmax of a learned score over the tokens, then LayerNorm(s + MLP(s)); it can learn."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from btoks import methods
from items import KINDS, features, fresh, streamed, token_states


def test_it_is_the_formula() -> None:
    model = fresh("qwen2_vl", tokens=3, pooling="attention")
    module = model[1]
    states_KD = token_states(model, KINDS["image"])
    with torch.no_grad():
        scores_K = states_KD @ module.score.weight[0] + module.score.bias
        odds_K = scores_K.exp() / scores_K.exp().sum()
        pooled_D = sum(odd * state_D for odd, state_D in zip(odds_K, states_KD, strict=True))
        one, two = module.mlp[0], module.mlp[2]
        inner_D = functional.gelu(one.weight @ pooled_D + one.bias)
        sum_D = pooled_D + two.weight @ inner_D + two.bias
        even_D = (sum_D - sum_D.mean()) / (sum_D.var(correction=0) + 1e-5).sqrt()
        expected_D = functional.normalize(even_D * module.norm.weight + module.norm.bias, dim=0)
    found_D = torch.from_numpy(streamed(model, [KINDS["image"]])[0])
    torch.testing.assert_close(found_D, expected_D, rtol=0, atol=1e-6)


def test_the_seed_and_nothing_else_decides_how_it_starts() -> None:
    torch.manual_seed(5)
    one, other, third = (
        fresh("qwen3", pooling={"name": "attention", "seed": seed}).encode([KINDS["text"]]) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)
    drawn = torch.random.get_rng_state()
    methods.create("pooling", "attention").build(8)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_it_learns() -> None:
    """Two items are told to point apart; every one of its parameters moves, and they do."""
    model = fresh("qwen3", pooling="attention")
    batch = features(model, KINDS["text"], KINDS["short text"])
    with torch.no_grad():
        out = model[0](dict(batch))
        states = {key: out[key].clone() for key in ("token_embeddings", "attention_mask")}
    start = {key: value.clone() for key, value in model[1].state_dict().items()}
    optimizer = torch.optim.Adam(model[1].parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        one_D, two_D = functional.normalize(model[1](dict(states))["sentence_embedding"], dim=1)
        loss = one_D @ two_D
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    # A score's bias moves every score alike, which softmax takes out.
    moved = {key for key, value in model[1].state_dict().items() if not torch.equal(value, start[key])}
    assert moved >= start.keys() - {"score.bias"}
