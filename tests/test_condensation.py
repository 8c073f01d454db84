"""The memory of the bottleneck tokens: equal to one masked pass, and held apart from the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

import dense
from btoks import bottleneck, condensation
from btoks.errors import BtoksError
from items import KINDS, attached, features, fresh, padded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

TARGETS = ("a red bus in front of the station", "fox", "a page about it", "", "two people")
Grads = dict[str, "Tensor"]


def targets(model: SentenceTransformer) -> tuple[Tensor, Tensor]:
    """Prefix, text and suffix of every row, padded on the right; text and suffix count, the third row's not at all."""
    notes, tokenizer = bottleneck.record(model), model.tokenizer
    prefix, suffix = (tokenizer(notes[key], add_special_tokens=False).input_ids for key in ("prefix", "suffix"))
    texts = [tokenizer(text, add_special_tokens=False).input_ids for text in TARGETS]
    width = len(prefix) + max(map(len, texts)) + len(suffix)
    ids_BT = torch.full((len(texts), width), tokenizer.pad_token_id)
    supervised_BT = torch.zeros(len(texts), width, dtype=torch.bool)
    for place, text in enumerate(texts):
        ids = [*prefix, *text, *suffix]
        ids_BT[place, : len(ids)] = torch.tensor(ids)
        supervised_BT[place, len(prefix) : len(ids)] = place != 2
    return ids_BT, supervised_BT


def total(loss_B: Tensor, embedding_BD: Tensor) -> Tensor:
    """Both uses of the one pass in one number, so that their gradients meet."""
    direction_D = torch.linspace(-1, 1, embedding_BD.shape[1])
    return 5 * loss_B.mean() + functional.cosine_similarity(embedding_BD, direction_D[None]).pow(2).sum()


def gradients(model: SentenceTransformer) -> Grads:
    named = bottleneck.generator(model).named_parameters()
    found = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}
    model.zero_grad()
    bottleneck.generator(model).zero_grad()
    return found


def by_memory(model: SentenceTransformer, name: str) -> tuple[Tensor, Tensor, Grads]:
    embedding_BD, held = condensation.memory(model, features(model, *dense.rows(name)))
    loss_B = condensation.generation_loss(model, held, *targets(model))
    total(loss_B, embedding_BD).backward()
    return loss_B.detach(), embedding_BD.detach(), gradients(model)


def by_mask(model: SentenceTransformer, name: str) -> tuple[Tensor, Tensor, Grads]:
    ids_BT, supervised_BT = targets(model)
    found = [dense.loss(model, *row) for row in zip(dense.rows(name), ids_BT, supervised_BT, strict=True)]
    loss_B, embedding_BD = torch.stack([loss for loss, _ in found]), torch.stack([vector for _, vector in found])
    total(loss_B, embedding_BD).backward()
    return loss_B.detach(), embedding_BD.detach(), gradients(model)


def assert_same(found: tuple[Tensor, Tensor, Grads], expected: tuple[Tensor, Tensor, Grads]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-5)
    assert found[2].keys() == expected[2].keys()
    for name, grad in found[2].items():
        largest = float(expected[2][name].abs().max())
        assert float((grad - expected[2][name]).abs().max()) <= 1e-5 * largest, name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", dense.NAMES)
def test_the_memory_gives_what_one_masked_pass_gives(name: str, attention: str) -> None:
    """Loss, embedding and the gradient of every weight, ragged rows and both sides of padding at once."""
    model = fresh(name)
    bottleneck.generator(model).set_attn_implementation(attention)
    expected = by_mask(model, name)
    assert len(expected[2]) > 20
    assert float(expected[0][2]) == 0
    assert (expected[0][[0, 1, 3, 4]] > 1).all()
    for side in ("right", "left"):
        with padded(model, side):
            assert_same(by_memory(model, name), expected)


def test_sliding_layers_too() -> None:
    model = fresh("gemma3")
    item = KINDS["text"]
    ids_BT, supervised_BT = targets(model)
    expected, _ = dense.loss(model, item, ids_BT[0], supervised_BT[0])
    _, held = condensation.memory(model, features(model, item))
    found_B = condensation.generation_loss(model, held, ids_BT[:1], supervised_BT[:1])
    torch.testing.assert_close(found_B[0], expected, rtol=0, atol=1e-5)


def test_a_target_longer_than_the_window_is_refused() -> None:
    """Beyond the window a sliding layer would lose the memory without a word."""
    model = attached("gemma3")
    _, held = condensation.memory(model, features(model, KINDS["text"]))
    ids_BT = torch.full((1, 600), 5)
    with pytest.raises(BtoksError, match=r"target of 599 tokens: the window is 512 tokens; cut the target"):
        condensation.generation_loss(model, held, ids_BT, torch.ones_like(ids_BT))
    assert condensation.generation_loss(model, held, ids_BT[:, :500], torch.ones(1, 500)) > 0


@pytest.mark.parametrize("name", dense.NAMES)
def test_the_mask_matters(name: str) -> None:
    """With the input in sight the loss is another one: that of the memory of everything."""
    model = fresh(name)
    ids_BT, supervised_BT = targets(model)
    item = dense.rows(name)[0]
    with torch.no_grad():
        each = zip(dense.rows(name), ids_BT, supervised_BT, strict=True)
        expected = [dense.loss(model, *row, masked=False)[0] for row in each]
        masked, _ = dense.loss(model, item, ids_BT[0], supervised_BT[0])
        assert abs(expected[0] - masked) > 1e-3
        for side in ("left", "right"):
            with padded(model, side):
                _, everything = condensation.memory(model, features(model, *dense.rows(name)), full=True)
            found_B = condensation.generation_loss(model, everything, ids_BT, supervised_BT)
            torch.testing.assert_close(found_B, torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", dense.NAMES)
def test_the_embedding_knows_nothing_of_the_target(name: str) -> None:
    model = attached(name)
    item = dense.rows(name)[0]
    ids_BT, supervised_BT = targets(model)
    with torch.no_grad():
        plain_BD = model(features(model, item))["sentence_embedding"]
        embedding_BD, _ = condensation.memory(model, features(model, item))
        assert torch.equal(embedding_BD, plain_BD)
        for place in (0, 1):
            _, with_target_D = dense.loss(model, item, ids_BT[place], supervised_BT[place])
            torch.testing.assert_close(with_target_D, plain_BD[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", dense.NAMES)
def test_the_target_hears_of_the_input_through_the_memory_alone(name: str, attention: str) -> None:
    """Hold the memory and change the input: not a bit of the loss moves. Take it again: it does."""
    model = fresh(name)
    bottleneck.generator(model).set_attn_implementation(attention)
    ids_BT, supervised_BT = targets(model)
    items, others = dense.rows(name), [{**item, "text": "now it is something else"} for item in dense.rows(name)]
    with torch.no_grad():
        _, held = condensation.memory(model, features(model, *items))
        before_B = condensation.generation_loss(model, held, ids_BT, supervised_BT)
        _, changed = condensation.memory(model, features(model, *others))
        assert torch.equal(condensation.generation_loss(model, held, ids_BT, supervised_BT), before_B)
        after_B = condensation.generation_loss(model, changed, ids_BT, supervised_BT)
    counted = supervised_BT.any(dim=1)
    assert ((after_B - before_B).abs()[counted] > 1e-4).all()
    inputs_BLD = [held.keys_LBHKD.clone().requires_grad_(), held.values_LBHKD.clone().requires_grad_()]
    leaf = condensation.Memory(*inputs_BLD, held.position_B)
    condensation.generation_loss(model, leaf, ids_BT, supervised_BT).sum().backward()
    for tensor in inputs_BLD:
        moved_BK = tensor.grad.abs().amax(dim=(0, 2, 4))
        assert (moved_BK[counted] > 0).all(), "every one of the K positions is heard"
        assert (moved_BK[~counted] == 0).all()


@pytest.mark.parametrize("name", dense.NAMES)
def test_checkpointed_layers_give_the_same_gradients(name: str) -> None:
    model = fresh(name)
    expected = by_memory(model, name)
    full, runs = bottleneck.generator(model), [0]
    full.activation_checkpointing_enable()
    model.train()
    layers = full.get_decoder().layers
    handle = layers[0].self_attn.register_forward_pre_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    found = by_memory(model, name)
    handle.remove()
    assert runs == [4], "each of the two passes ran it again on the way back"
    assert_same(found, expected)


@torch.no_grad()
def test_what_counts_in_a_row() -> None:
    """The mean over a row's own supervised tokens; nothing of padding, of other rows, of the first token."""
    model = attached("qwen2_vl")
    _, held = condensation.memory(model, features(model, *dense.rows("qwen2_vl")))
    ids_BT, supervised_BT = targets(model)
    loss_B = condensation.generation_loss(model, held, ids_BT, supervised_BT)
    assert loss_B.shape == (5,)
    assert float(loss_B[2]) == 0
    garbage_BT = ids_BT.clone()
    last_B = (supervised_BT * torch.arange(ids_BT.shape[1])).amax(1)
    beyond_BT = torch.arange(ids_BT.shape[1])[None] > last_B[:, None]
    garbage_BT[beyond_BT] = 7
    wider = functional.pad(garbage_BT, (0, 5), value=9), functional.pad(supervised_BT, (0, 5))
    torch.testing.assert_close(condensation.generation_loss(model, held, *wider), loss_B, rtol=0, atol=1e-5)
    first_BT = torch.zeros_like(supervised_BT)
    first_BT[:, 0] = True
    assert torch.equal(condensation.generation_loss(model, held, ids_BT, first_BT), torch.zeros(5))
    assert torch.equal(condensation.generation_loss(model, held, ids_BT, supervised_BT | first_BT), loss_B)
    each_B = torch.zeros(5)
    for place in supervised_BT.any(0).nonzero()[:, 0]:
        only_BT = torch.zeros_like(supervised_BT)
        only_BT[:, place] = supervised_BT[:, place]
        each_B += condensation.generation_loss(model, held, ids_BT, only_BT)
    torch.testing.assert_close(each_B / supervised_BT.sum(1).clamp(min=1), loss_B, rtol=0, atol=1e-5)
    for place in range(5):
        row = slice(place, place + 1)
        alone_B = condensation.generation_loss(model, held[row], ids_BT[row], supervised_BT[row])
        torch.testing.assert_close(alone_B, loss_B[row], rtol=0, atol=1e-5)


def test_a_batch_without_any_target_adds_nothing() -> None:
    """A step of pictures alone still runs backward, also in a distributed run, where every rank must."""
    model = fresh("qwen2_vl")
    _, own = condensation.memory(model, features(model, KINDS["image"], KINDS["short text"]))
    for width in (0, 1, 2, 5):
        ids_BT = torch.full((2, width), 5)
        loss_B = condensation.generation_loss(model, own, ids_BT, torch.zeros_like(ids_BT))
        assert torch.equal(loss_B, torch.zeros(2))
        assert loss_B.requires_grad
        loss_B.sum().backward(retain_graph=True)
        assert all(torch.isfinite(grad).all() and not grad.any() for grad in gradients(model).values())


def test_where_the_text_goes_on_belongs_to_the_model() -> None:
    """After the largest position id; in checkpoints that were trained so, at the number of tokens."""
    model = fresh("qwen2_vl")
    items = [KINDS["text"], KINDS["two images"], KINDS["video + text"]]
    batch = features(model, *items)
    counts_B = batch["attention_mask"].sum(1)
    _, by_position = condensation.memory(model, batch)
    alone = [dense.positions(model[0].model, features(model, item), 1).max() for item in items]
    assert by_position.position_B.tolist() == [int(place) for place in alone]
    assert int(by_position.position_B[0]) == int(counts_B[0])
    assert (by_position.position_B[1:] < counts_B[1:]).all()
    model[0].config.btoks["start"] = "tokens"
    for side in ("left", "right"):
        with padded(model, side):
            _, by_tokens = condensation.memory(model, features(model, *items))
            assert torch.equal(by_tokens.position_B, counts_B)
    ids_BT, supervised_BT = targets(model)
    one_B, other_B = (
        condensation.generation_loss(model, held, ids_BT[:3], supervised_BT[[0, 0, 0]])
        for held in (by_position, by_tokens)
    )
    torch.testing.assert_close(one_B[0], other_B[0], rtol=0, atol=1e-5)
    assert ((one_B - other_B)[1:].abs() > 1e-4).all()
