"""DupMAE: what its decoder may see, what its vector holds, and that both decoders teach what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from btoks import condensation, methods
from btoks.errors import BtoksError
from btoks.methods.pooling.dupmae import bag_loss, visible, words
from btoks.training.loss import CondensationLoss
from items import KINDS, features, fresh, last_states, streamed
from trained import trained
from training.by_hand import POSITIVES, QUERIES, assert_close, gradients, plain

SMALL = {"name": "dupmae", "dense": 32, "sketch": 32, "kept": 32}
TEXTS = ("fox", "dog", "book", "bus", "garden", "station", "page", "photo", "people", "house", "red", "lazy", "brown")


def test_no_row_of_the_decoder_sees_its_own_token() -> None:
    torch.manual_seed(0)
    words_BT = torch.ones(6, 40, dtype=torch.bool)
    words_BT[:, 30:] = False
    seen_BTS = visible(words_BT, 0.5)
    assert seen_BTS.shape == (6, 40, 41)
    assert seen_BTS[..., 0].all(), "the pooled state"
    assert not seen_BTS[..., 1:].diagonal(dim1=1, dim2=2).any()
    assert not seen_BTS[..., 31:].any()
    assert abs(seen_BTS[:, :30, 1:31].float().mean() - 0.5 * 29 / 30) < 0.02


def test_the_words_are_what_is_attended_and_no_bottleneck_token() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    assert words(mask, 2).int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert torch.equal(words(mask, 0), mask)


@pytest.mark.parametrize("tokens", [0, 3])
def test_the_vector_is_a_map_of_the_pooled_state_and_a_sketch_of_the_strongest_words(tokens: int) -> None:
    model = fresh("qwen3", tokens=tokens, pooling=SMALL)
    states = last_states(model, KINDS["text"])
    with torch.no_grad():
        pooled = states[-tokens:].mean(0) if tokens else states[-1]
        told = condensation.logits(model, states[: len(states) - tokens]).amax(dim=0).clamp(min=0)
        top = told.topk(32)
        sparse = torch.zeros_like(told).scatter(0, top.indices, top.values)
        sketch = sum(value * model[1].sketched(torch.eye(len(told))[at][None])[0] for at, value in enumerate(sparse))
        wanted = torch.cat([normalize(model[1].down(pooled), dim=0), normalize(sketch, dim=0)]) / 2**0.5
    found = torch.from_numpy(streamed(model, [KINDS["text"]])[0])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_a_wide_sketch_keeps_the_dot_products() -> None:
    module = methods.create("pooling", {"name": "dupmae", "sketch": 1 << 20, "kept": 8}).build(64)
    strongest = torch.rand(5, 300, generator=torch.Generator().manual_seed(0))
    top = strongest.topk(8, dim=1)
    sparse = torch.zeros_like(strongest).scatter(1, top.indices, top.values)
    sketched = module.sketched(strongest)
    torch.testing.assert_close(sketched @ sketched.T, sparse @ sparse.T)


def test_the_bag_is_the_set_of_the_words() -> None:
    strongest, ids = torch.randn(2, 9), torch.tensor([[3, 5, 3, 1], [7, 0, 0, 0]])
    inside = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    log = strongest.log_softmax(dim=1)
    torch.testing.assert_close(bag_loss(strongest, ids, inside), -torch.stack([(log[0, 3] + log[0, 5]) / 2, log[1, 7]]))


def test_it_takes_the_place_of_the_generation_loss() -> None:
    model = fresh("qwen3", pooling=SMALL).to(torch.float64).train()
    columns = [[{"text": text} for text in texts] for texts in ("abcde", "vwxyz")]  # one length: they stay in order
    torch.manual_seed(1)
    outs = [model(features(model, *items)) for items in columns]
    one, other = (out["sentence_embedding"] for out in outs)
    contrast = -torch.log_softmax(one @ other.T / 0.02, dim=1).diagonal().mean()
    (contrast + 3 * sum(out["generation"].mean() for out in outs)).backward()
    wanted = gradients(model)
    for keep in (0, None):
        torch.manual_seed(1)
        loss = CondensationLoss(model, weight=3.0, mini_batch_size=5, keep=keep)
        value = loss([features(model, *items) for items in columns])
        value.backward()
        assert loss.last.generation.item() == pytest.approx(sum(out["generation"].mean().item() for out in outs))
        assert_close(gradients(model), wanted, 1e-5)
    assert {f"1.{name}" for name, _ in model[1].named_parameters()} <= wanted.keys()
    assert CondensationLoss(model, weight=0.0)([features(model, *plain(each)) for each in (QUERIES, POSITIVES)]) > 0


def test_sizes_are_checked() -> None:
    for wrong in ({"dense": 0}, {"blank": 1.0}):
        with pytest.raises(BtoksError, match="dupmae"):
            methods.create("pooling", {"name": "dupmae", **wrong})


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Two halves of five words each, in other orders, of which four are shared."""
    luck = np.random.default_rng(seed)
    chosen = [luck.choice(TEXTS, 6, replace=False) for _ in range(count)]
    return [(" ".join(row[:5]), " ".join(luck.permutation(row[1:]))) for row in chosen]


def test_both_decoders_teach_what_they_are_for() -> None:
    held_out, start = rows(40, 1), fresh("qwen3", tie=True, pooling=SMALL)
    how = {"steps": 60, "tie": True, "lr": 5e-3, "weight": 1.0}
    model = trained(rows(400, 0), pooling={**SMALL, "bow": 1.0}, **how)
    batch = features(model, *({"text": text} for text, _ in held_out))
    inside = words(batch["attention_mask"].bool(), 4)
    before, after = (bags(each, batch, inside) for each in (start, model))
    assert after[0] < before[0] - 1, "the bag's loss"
    assert after[1] >= 0.6, "the share of a text's n words among its n strongest coordinates"
    assert before[1] < 0.2
    with torch.no_grad():
        states = model[0](dict(batch))["token_embeddings"]
        pooled = states[:, -4:].mean(dim=1)
        torch.manual_seed(0)
        told = unlikely(model, batch, inside, pooled)
        torch.manual_seed(0)
        assert unlikely(model, batch, inside, torch.zeros_like(pooled)) > told + 0.1, "the pooled state is used"


def bags(model: object, batch: dict[str, torch.Tensor], inside: torch.Tensor) -> tuple[float, float]:
    with torch.no_grad():
        strongest = model[1].strongest(model[0](dict(batch))["token_embeddings"], inside)
    shares = []
    for row, own in zip(strongest, batch["input_ids"], strict=True):
        wanted = set(own[inside[len(shares)]].tolist())
        shares.append(len(wanted & set(row.topk(len(wanted)).indices.tolist())) / len(wanted))
    return bag_loss(strongest, batch["input_ids"], inside).mean().item(), float(np.mean(shares))


def unlikely(model: object, batch: dict[str, torch.Tensor], inside: torch.Tensor, pooled: torch.Tensor) -> float:
    told = model[1].decoded(batch["input_ids"], inside, pooled)
    logits = condensation.logits(model, told[inside])
    return torch.nn.functional.cross_entropy(logits, batch["input_ids"][inside]).item()
