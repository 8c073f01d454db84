"""Causal2Vec: what comes last in a text reaches its first word, through the contextual token and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from btoks import methods
from btoks.bottleneck import record
from btoks.errors import BtoksError
from btoks.training.build import add_lora
from btoks.training.loss import CondensationLoss
from btoks.training.recipe import Lora
from items import attached, features, fresh, last_states, streamed
from trained import hit, trained
from training.by_hand import POSITIVES, QUERIES, assert_close, by_hand, gradients, plain

TEXT, SHUFFLED = "the quick brown fox jumps over a lazy dog", "the quick brown fox dog over lazy a jumps"


def states(model: object, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model[0](features(model, {"text": text}))["token_embeddings"][0]


def first_words(model: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of the beginning that two texts share, after the slot if there is one."""
    slots = 1 if record(model)["pooling"]["name"] == "causal2vec" else 0
    return tuple(states(model, text)[slots : slots + 4] for text in (TEXT, SHUFFLED))


@pytest.mark.parametrize("name", ["qwen3", "qwen3_vl"])
def test_the_end_of_a_text_changes_the_state_of_its_first_word(name: str) -> None:
    one, other = first_words(attached(name))
    assert torch.equal(one, other), "causal attention"
    one, other = first_words(fresh(name, pooling="causal2vec"))
    assert (one - other).abs().amax(dim=1).min() > 1e-3


@pytest.mark.parametrize("tokens", [0, 3])
def test_the_embedding_is_two_states_side_by_side(tokens: int) -> None:
    model = fresh("qwen3", tokens=tokens, pooling="causal2vec")
    own = states(model, TEXT)
    mean = own[-tokens:].mean(0) if tokens else own[-1]
    expected = torch.nn.functional.normalize(torch.cat([own[0], mean]), dim=0)
    torch.testing.assert_close(torch.from_numpy(streamed(model, [TEXT])[0]), expected, rtol=0, atol=1e-6)


def test_without_the_contextual_token_the_slot_is_the_plain_one() -> None:
    """The change of the pass is the slot's embedding alone: the states are those of the body told so."""
    model = fresh("qwen3", pooling="causal2vec")
    batch = features(model, {"text": TEXT})
    with torch.no_grad():
        embedded = model[0].model.get_input_embeddings()(batch["input_ids"])
        seen = batch["attention_mask"].bool().clone()
        seen[:, -4:] = False
        told = torch.cat([model[1].contextual(embedded, seen)[:, None], embedded[:, 1:]], dim=1)
        expected = model[0].model(inputs_embeds=told).last_hidden_state[0]
    torch.testing.assert_close(states(model, TEXT), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(last_states(model, {"text": TEXT}), expected), (
        "the body alone has an ordinary token there"
    )


def test_the_loss_reaches_every_weight_of_the_encoder() -> None:
    model = fresh("qwen3", pooling="causal2vec").to(torch.float64)
    columns = plain(QUERIES[:3]), plain(POSITIVES[:3])
    value = by_hand(model, *columns)
    value.backward()
    wanted = gradients(model)
    encoder = {f"1.{name}" for name, weight in model[1].named_parameters()}
    assert encoder <= {name for name, each in wanted.items() if each.abs().max() > 0}
    found = CondensationLoss(model, mini_batch_size=2)([features(model, *items) for items in columns])
    found.backward()
    assert found.item() == pytest.approx(value.item())
    assert_close(gradients(model), wanted, 1e-5)


def test_adapters_leave_the_encoder_trainable() -> None:
    model = fresh("qwen3", pooling="causal2vec")
    add_lora(model, Lora(rank=2))
    assert all(weight.requires_grad for weight in model[1].parameters())
    assert not model[0].model.norm.weight.requires_grad


def test_it_is_used_alone() -> None:
    model = fresh("qwen3", pooling="tempscale:0.9+causal2vec")
    with pytest.raises(BtoksError, match="use it alone"):
        streamed(model, [TEXT])
    with pytest.raises(BtoksError, match="a width that 4 divides"):
        methods.create("pooling", {"name": "causal2vec", "inside": 6}).build(64)


def test_it_learns_as_well_as_the_last_token() -> None:
    """What a text is about stands in front of it; the same steps on the same rows."""
    luck = np.random.default_rng(0)
    words = ["fox", "dog", "book", "bus", "red", "lazy", "quick", "brown", "text", "page"]
    rows = [luck.choice(words, 4) for _ in range(240)]
    pairs = [(" ".join(row), f"{row[0]} {row[1]}") for row in rows]
    scores = [
        hit(trained(pairs[40:], 25, tokens=0, pooling=pooling, weight=0.0, side="none"), pairs[:40])
        for pooling in ("causal2vec", "last")
    ]
    assert scores[0] >= scores[1]
