"""Prefixes: the first k of K states are the embedding of a model with k tokens, and so is their memory."""

from __future__ import annotations

import pytest
import torch

import btoks
from btoks import adaptive, condensation, methods
from btoks.bottleneck import generator
from btoks.errors import BtoksError
from btoks.training.loss import CondensationLoss
from items import KINDS, attached, features, fresh, near, streamed
from training.by_hand import POSITIVES, QUERIES, assert_close, gradients, spoken

ITEMS = list(KINDS.values())


def shorter(tokens: int) -> object:
    return attached("qwen3_vl", tokens=tokens)


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_first_k_are_the_model_with_k_tokens(keep: int) -> None:
    model = fresh("qwen3_vl", pooling={"name": "prefixes", "keep": keep})
    near(streamed(model, ITEMS), streamed(shorter(keep), ITEMS))


@pytest.mark.parametrize("keep", [1, 3])
def test_so_is_the_memory_of_the_first_k(keep: int) -> None:
    few, many = shorter(keep), attached("qwen3_vl")
    batch = [KINDS["image + text"], KINDS["text"]]
    _, wanted = condensation.memory(few, features(few, *batch))
    _, held = condensation.memory(many, features(many, *batch))
    found = held.first(keep)
    torch.testing.assert_close(found.keys_LBHKD, wanted.keys_LBHKD, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.values_LBHKD, wanted.values_LBHKD, rtol=0, atol=1e-5)
    assert torch.equal(found.position_B, wanted.position_B)
    assert found.nbytes == condensation.nbytes(generator(many).config, tokens=keep, rows=2) == wanted.nbytes
    assert btoks.read(many, found, max_new_tokens=4) == btoks.read(few, wanted, max_new_tokens=4)


@pytest.mark.parametrize("tokens", [0, 5])
def test_no_other_number_of_tokens_is_kept(tokens: int) -> None:
    _, held = condensation.memory(attached("qwen3"), features(attached("qwen3"), KINDS["text"]))
    with pytest.raises(BtoksError, match="ask for 1 to 4"):
        held.first(tokens)
    with pytest.raises(BtoksError, match="pass 1 to 4"):
        fresh("qwen3", pooling={"name": "prefixes", "keep": tokens})


def test_the_tolerance_is_kept_by_every_item_and_by_none_with_fewer() -> None:
    model = attached("qwen3_vl")
    every = torch.stack([torch.from_numpy(streamed(shorter(k), ITEMS)) for k in (1, 2, 3, 4)], dim=1)
    change_BK = 1 - (every * every[:, -1:]).sum(2)
    tolerance = float(change_BK[:, :-1].quantile(0.5))
    with methods.apply(model, methods.create("pooling", f"prefixes:{tolerance}")):
        vectors = streamed(model, ITEMS)
        kept = [model(features(model, item))["kept"].item() for item in ITEMS]
    assert len(set(kept)) > 1
    for row, k in enumerate(kept):
        near(vectors[row], every[row, k - 1].numpy())
        assert change_BK[row, k - 1] <= tolerance
        assert (change_BK[row, : k - 1] > tolerance).all()


def test_each_item_keeps_the_memory_of_its_own_tokens() -> None:
    model = fresh("qwen3", pooling="prefixes:0.1")
    batch = features(model, KINDS["text"], KINDS["short text"])
    vectors, memories = adaptive.remembered(model, batch)
    kept = model(dict(batch))["kept"].tolist()
    _, whole = condensation.memory(model, batch)
    torch.testing.assert_close(vectors, model(dict(batch))["sentence_embedding"])
    for row, (own, k) in enumerate(zip(memories, kept, strict=True)):
        assert own.keys_LBHKD.shape[3] == k
        assert torch.equal(own.keys_LBHKD, whole[[row]].first(k).keys_LBHKD)
    with pytest.raises(BtoksError, match="attach it with 'prefixes'"):
        adaptive.remembered(attached("qwen3"), batch)


def test_what_is_told_from_k_tokens_is_told_by_a_model_of_k() -> None:
    model = attached("qwen3")
    batch = [KINDS["text"], KINDS["short text"]]
    target = spoken(model, batch)
    with torch.no_grad():
        found_BK = adaptive.generation_losses(model, features(model, *batch), *target)
        for k in (1, 2, 4):
            few = attached("qwen3", tokens=k)
            _, held = condensation.memory(few, features(few, *batch))
            torch.testing.assert_close(found_BK[:, k - 1], condensation.generation_loss(few, held, *target))


@pytest.mark.parametrize("step", [0, 2])
def test_the_loss_is_the_mean_over_k_and_generation_takes_turns(step: int) -> None:
    queries, positives = QUERIES[:3], POSITIVES[:3]
    model = fresh("qwen3_vl", pooling="prefixes").to(torch.float64)
    total = torch.zeros(())
    for k in range(1, 5):
        with methods.apply(model, methods.create("pooling", {"name": "prefixes", "keep": k})):
            one, other = (model(features(model, *items))["sentence_embedding"] for items in (queries, positives))
        total = total - torch.log_softmax(one @ other.T / 0.02, dim=1).diagonal().mean() / 4
    _, held = condensation.memory(model, features(model, *queries))
    told = condensation.generation_loss(model, held.first(step + 1), *spoken(model, positives)).mean()
    (total + 5 * told).backward()
    wanted = gradients(model)
    for chunk in (1, 3):
        loss = CondensationLoss(model, mini_batch_size=chunk)
        loss.step = step + 4
        value = loss([features(model, *items) for items in (queries, positives)])
        value.backward()
        assert value.item() == pytest.approx((total + 5 * told).item(), rel=1e-6)
        assert_close(gradients(model), wanted, 1e-5)  # the norms round to fp32
